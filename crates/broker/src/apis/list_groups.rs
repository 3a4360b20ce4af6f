//! ListGroups: those with members, and those that have only offsets (KIP-518, KIP-848).

use super::describe_groups::EMBEDDED;
use crate::dispatch::Call;
use crate::groups::{CLASSIC, GroupState, Listed, names_beside};
use exactlog_wire::messages::list_groups::{ListedGroup, Request, Response};

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let mut listed = call.node.groups.list();
    let of_log = |protocol_type: &str, state: GroupState, group: String| Listed {
        group,
        protocol_type: protocol_type.to_owned(),
        state: state.name(),
        kind: CLASSIC,
    };
    listed.extend(names_beside(call.node, &listed).into_iter().map(|(group, members)| match members {
        0 => of_log("", GroupState::Empty, group),
        _ => of_log(EMBEDDED, GroupState::Stable, group),
    }));
    listed.sort_by(|one, other| one.group.cmp(&other.group));
    let is_asked_for = |filter: &[exactlog_wire::value::Str], value: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    listed.retain(|group| {
        is_asked_for(&request.states_filter, group.state) && is_asked_for(&request.types_filter, group.kind)
    });
    Response { groups: listed.into_iter().map(row).collect(), ..Response::default() }
}

fn row(listed: Listed) -> ListedGroup {
    ListedGroup {
        group_id: listed.group.into(),
        protocol_type: listed.protocol_type.into(),
        group_state: listed.state.into(),
        group_type: listed.kind.into(),
    }
}
