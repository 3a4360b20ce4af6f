//! Ends a session: its members leave their groups.

use crate::schema::api;
use crate::value::Uuid;

api! {
    NodeBye = 10007, versions 0..=0, flexible 0;
    request {
        session: Uuid,
    }
    response {
        error_code: i16,
    }
}
