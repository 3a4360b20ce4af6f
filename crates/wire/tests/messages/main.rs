//! Every API in every version that is known here, both directions.
//!
//! Messages are made up from the notation alone, by a writer that shares nothing with the codec (`made`). What the
//! codec reads is compared with a second one (`differential`); what isn't a message is refused and bounded (`hostile`).
#![allow(clippy::unwrap_used)]

mod differential;
mod hostile;
mod made;
mod notation;

use exactlog_wire::message::ApiInfo;
use exactlog_wire::messages::APIS;
use exactlog_wire::schema::Shape;

/// A request or a response of an API in one version.
#[derive(Clone, Copy, Debug)]
struct Kind {
    api: &'static ApiInfo,
    version: i16,
    is_request: bool,
}

impl Kind {
    fn shape(&self) -> Shape {
        if self.is_request { (self.api.request)() } else { (self.api.response)() }
    }

    fn is_flexible(&self) -> bool {
        self.api.is_flexible(self.version)
    }
}

/// All of them.
fn kinds() -> impl Iterator<Item = Kind> {
    APIS.iter().flat_map(|api| {
        (api.versions.from..=api.versions.to)
            .flat_map(move |version| [true, false].map(|is_request| Kind { api, version, is_request }))
    })
}
