//! ListGroups: those with members, and those that have only offsets (KIP-518, KIP-848).

use super::describe_groups::EMBEDDED;
use crate::dispatch::Call;
use crate::groups::{GroupState, Listed, names_beside};
use exactlog_wire::messages::list_groups::{ListedGroup, Request, Response};

/// What kind of group they are.
const CLASSIC: &str = "classic";

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let listed = call.node.groups.list();
    let beside = names_beside(call.node, &listed).into_iter().map(|(group, members)| match members {
        0 => row(&group, "", GroupState::Empty),
        _ => row(&group, EMBEDDED, GroupState::Stable),
    });
    let of = |it: &Listed| row(&it.group, &it.protocol_type, it.state);
    let mut groups: Vec<ListedGroup> = listed.iter().map(of).chain(beside).collect();
    groups.sort_by(|one, other| one.group_id.cmp(&other.group_id));
    let is_asked_for = |filter: &[exactlog_wire::value::Str], value: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    groups.retain(|group| {
        is_asked_for(&request.states_filter, &group.group_state)
            && is_asked_for(&request.types_filter, &group.group_type)
    });
    Response { groups, ..Response::default() }
}

fn row(group: &str, protocol_type: &str, state: GroupState) -> ListedGroup {
    ListedGroup {
        group_id: group.into(),
        protocol_type: protocol_type.into(),
        group_state: state.name().into(),
        group_type: CLASSIC.into(),
    }
}
