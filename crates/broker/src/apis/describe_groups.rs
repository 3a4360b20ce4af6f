//! DescribeGroups: the members of classic groups, and what each has.

use crate::code;
use crate::dispatch::Call;
use crate::groups::{DescribedMember, Description, GroupState};
use crate::rights;
use exactlog_wire::messages::describe_groups::{DescribedGroup, DescribedGroupMember, Request, Response};
use exactlog_wire::value::Str;

/// From which version on a group that isn't there is an error (KIP-1043).
const NOT_FOUND: i16 = 6;

/// What the protocol of groups is called whose members are consumers of the process that has the log.
pub(super) const EMBEDDED: &str = "exactlog";

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let described = |group_id: Str| {
        let group = described(call, group_id);
        let operations = rights::of_group(request.include_authorized_operations, group.error_code);
        DescribedGroup { authorized_operations: operations, ..group }
    };
    Response { groups: request.groups.into_iter().map(described).collect(), ..Response::default() }
}

fn described(call: &Call<'_>, group_id: Str) -> DescribedGroup {
    if call.node.groups.is_consumer(&group_id) {
        return dead(call.version, &group_id, format!("group {:?} isn't a classic group", &*group_id));
    }
    let description = call.node.groups.describe(&group_id);
    if description.state != GroupState::Dead {
        return of_members(group_id, description);
    }
    let state = |state: GroupState, protocol_type: &str| DescribedGroup {
        group_id: group_id.clone(),
        group_state: state.name().into(),
        protocol_type: protocol_type.into(),
        ..DescribedGroup::default()
    };
    match call.node.log.group_members(&group_id) {
        Some(0) => state(GroupState::Empty, ""),
        Some(_) => state(GroupState::Stable, EMBEDDED),
        None => dead(call.version, &group_id, format!("there is no group {:?}", &*group_id)),
    }
}

fn dead(version: i16, group_id: &Str, why: String) -> DescribedGroup {
    let is_error = version >= NOT_FOUND;
    DescribedGroup {
        error_code: if is_error { code::GROUP_ID_NOT_FOUND } else { code::NONE },
        error_message: is_error.then(|| why.into()),
        group_id: group_id.clone(),
        group_state: GroupState::Dead.name().into(),
        ..DescribedGroup::default()
    }
}

fn of_members(group_id: Str, description: Description) -> DescribedGroup {
    let member = |member: DescribedMember| DescribedGroupMember {
        member_id: member.member_id.into(),
        group_instance_id: member.instance_id.map(Str::from),
        client_id: member.client_id.into(),
        client_host: member.client_host.into(),
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    };
    DescribedGroup {
        group_id,
        group_state: description.state.name().into(),
        protocol_type: description.protocol_type.into(),
        protocol_data: description.protocol_name.into(),
        members: description.members.into_iter().map(member).collect(),
        ..DescribedGroup::default()
    }
}
