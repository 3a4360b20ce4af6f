//! DescribeConfigs: the settings of topics and of this node (KIP-133, KIP-226, KIP-569).

use crate::code::{self, Refused};
use crate::dispatch::Call;
use crate::node::Node;
use crate::settings::{self, Row};
use exactlog_wire::messages::describe_configs::{
    DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
    Request, Response,
};
use exactlog_wire::value::Str;

/// What is told of each setting.
#[derive(Clone, Copy)]
struct Detail {
    synonyms: bool,
    documentation: bool,
}

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let detail = Detail { synonyms: request.include_synonyms, documentation: request.include_documentation };
    let results = request.resources.into_iter().map(|resource| describe(call.node, resource, detail));
    Response { results: results.collect(), ..Response::default() }
}

fn describe(node: &Node, wanted: DescribeConfigsResource, detail: Detail) -> DescribeConfigsResult {
    let (resource_type, name) = (wanted.resource_type, &*wanted.resource_name);
    // No names stand for all.
    let names = wanted.configuration_keys.unwrap_or_default();
    let is_wanted = |row: &Row| names.is_empty() || names.iter().any(|name| **name == *row.name);
    let (error_code, error_message, configs) = match rows(node, resource_type, name) {
        Ok((rows, own)) => {
            let rows = rows.iter().filter(|row| is_wanted(row));
            let is_of_node = resource_type == settings::BROKER;
            (code::NONE, None, rows.map(|row| described(row, own, is_of_node, detail)).collect())
        }
        Err((error_code, message)) => (error_code, Some(message.into()), Vec::new()),
    };
    DescribeConfigsResult {
        error_code,
        error_message,
        resource_type,
        resource_name: wanted.resource_name,
        configs,
    }
}

/// The settings of a resource, and where those come from that were set.
fn rows(node: &Node, resource_type: i8, name: &str) -> Result<(Vec<Row>, i8), Refused> {
    match resource_type {
        settings::TOPIC => {
            let topic = node.topic_legally_named(name)?;
            Ok((settings::of_topic(topic.config(), &node.log.kept_settings()), settings::TOPIC_CONFIG))
        }
        settings::BROKER => {
            settings::check_node(node.options.node_id, name)?;
            let mut rows = settings::of_node(&node.options, &node.log.kept_settings());
            // No name stands for what all nodes have that was set while they run.
            rows.retain(|row| !name.is_empty() || row.of_all.is_some());
            Ok((rows, settings::STATIC_BROKER_CONFIG))
        }
        other => {
            let what = format!("resource type {other}, {name:?}: topics (2) and nodes (4) have settings");
            Err((code::INVALID_REQUEST, what))
        }
    }
}

fn described(row: &Row, own: i8, is_of_node: bool, detail: Detail) -> DescribeConfigsResourceResult {
    let synonyms = row.synonyms(own).into_iter().filter(|_| detail.synonyms);
    let synonyms = synonyms.map(|(name, value, source)| DescribeConfigsSynonym {
        name: Str::from_static(name),
        value: Some(value.into()),
        source,
    });
    DescribeConfigsResourceResult {
        name: Str::from_static(row.name),
        value: Some(row.value().into()),
        read_only: is_of_node && settings::kept_for_all(row.name).is_none(),
        config_source: row.source(own),
        is_sensitive: false,
        synonyms: synonyms.collect(),
        config_type: row.kind as i8,
        documentation: detail.documentation.then(|| Str::from_static(row.about)),
    }
}
