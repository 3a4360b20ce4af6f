//! The one HTTP client of this crate: HTTP/1.1 without TLS, for what posts to somebody on the same machine or network.

use crate::error::Error;
use std::time::Duration;
use ureq::Agent;

/// What isn't `http://` is refused where it is set, and not when it is used.
pub(crate) fn check_url(setting: &'static str, url: &str, bound: &'static str) -> Result<(), Error> {
    let host = url.parse::<ureq::http::Uri>().ok().filter(|uri| uri.scheme_str() == Some("http"));
    match host.is_some_and(|uri| uri.host().is_some_and(|host| !host.is_empty())) {
        true => Ok(()),
        false => Err(Error::setting(setting, format!("{url:?}"), bound)),
    }
}

/// A client that follows no redirect, asks no proxy, and takes so long at most for each request. A status is no error.
pub(crate) fn client(timeout: Duration) -> Agent {
    let config = Agent::config_builder().timeout_global(Some(timeout)).max_redirects(0).proxy(None);
    config.http_status_as_error(false).user_agent("exactlog").build().into()
}
