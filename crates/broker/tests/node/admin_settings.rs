//! Settings of topics and of the node: described, set, changed.

use crate::common::{Client, Node};
use exactlog::{CleanupPolicy, TableOptions, TopicOptions};
use exactlog_broker::NodeOptions;
use exactlog_wire::messages::{
    AlterConfigs, CreateTopics, DescribeConfigs, IncrementalAlterConfigs, ListConfigResources, alter_configs,
    create_topics, describe_configs, incremental_alter_configs, list_config_resources,
};
use exactlog_wire::value::Str;
use std::collections::BTreeSet;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

fn resource(kind: i8, name: &str, keys: Option<&[&str]>) -> describe_configs::DescribeConfigsResource {
    describe_configs::DescribeConfigsResource {
        resource_type: kind,
        resource_name: name.into(),
        configuration_keys: keys.map(|keys| keys.iter().map(|key| (*key).into()).collect()),
    }
}

fn describe(resources: Vec<describe_configs::DescribeConfigsResource>) -> describe_configs::Request {
    describe_configs::Request { resources, include_synonyms: true, include_documentation: true }
}

async fn described(client: &mut Client, kind: i8, name: &str) -> describe_configs::DescribeConfigsResult {
    client.ask::<DescribeConfigs>(4, &describe(vec![resource(kind, name, None)])).await.results.remove(0)
}

async fn value(client: &mut Client, topic: &str, name: &str) -> String {
    let result = described(client, TOPIC, topic).await;
    let found = result.configs.into_iter().find(|it| &*it.name == name).unwrap();
    found.value.unwrap().to_string()
}

#[tokio::test]
async fn every_version_describes_topics_and_where_their_settings_come_from() {
    let node = Node::start().await;
    let options = TopicOptions::default().cleanup_policy(CleanupPolicy::CompactAndDelete);
    node.log.create_topic("orders", options).unwrap();
    let mut client = node.client().await;
    for version in 1..=4 {
        let request = describe(vec![resource(TOPIC, "orders", None)]);
        let result = client.ask::<DescribeConfigs>(version, &request).await.results.remove(0);
        assert_eq!((result.error_code, result.resource_type, &*result.resource_name), (0, TOPIC, "orders"));
        assert_eq!(result.configs.len(), 29, "version {version}");
        let of = |name: &str| result.configs.iter().find(|it| &*it.name == name).unwrap();
        let synonyms = |name: &str| -> Vec<(String, String, i8)> {
            let synonym = |it: &describe_configs::DescribeConfigsSynonym| {
                (it.name.to_string(), it.value.clone().unwrap().to_string(), it.source)
            };
            of(name).synonyms.iter().map(synonym).collect()
        };
        let own = |name: &str, value: &str, source| (name.to_string(), value.to_string(), source);
        let policy = of("cleanup.policy");
        assert_eq!((policy.value.as_deref(), policy.config_source), (Some("compact,delete"), 1));
        assert!(!policy.read_only && !policy.is_sensitive);
        let expected = [own("cleanup.policy", "compact,delete", 1), own("log.cleanup.policy", "delete", 5)];
        assert_eq!(synonyms("cleanup.policy"), expected);
        assert_eq!(of("retention.ms").config_source, 5);
        assert_eq!(synonyms("retention.ms"), [own("log.retention.ms", "-1", 5)]);
        assert_eq!(synonyms("topic.durability"), []);
        if version >= 3 {
            let kinds = ["max.message.bytes", "retention.ms", "cleanup.policy", "min.cleanable.dirty.ratio"]
                .map(|name| of(name).config_type);
            assert_eq!(kinds, [3, 5, 7, 6]);
            assert!(
                result.configs.iter().all(|it| it.documentation.as_ref().is_some_and(|it| it.len() > 10))
            );
        }
    }
}

#[tokio::test]
async fn only_what_is_asked_for_is_described() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    let names = |result: &describe_configs::DescribeConfigsResult| -> Vec<String> {
        result.configs.iter().map(|it| it.name.to_string()).collect()
    };
    let keys = ["retention.ms", "no.such.setting", "segment.bytes"];
    let mut request = describe(vec![
        resource(TOPIC, "orders", Some(&keys)),
        resource(TOPIC, "orders", Some(&["no.such.setting"])),
        resource(TOPIC, "orders", Some(&[])),
    ]);
    (request.include_synonyms, request.include_documentation) = (false, false);
    let results = client.ask::<DescribeConfigs>(4, &request).await.results;
    assert_eq!(names(&results[0]), ["segment.bytes", "retention.ms"]);
    assert_eq!(results[1].configs, []);
    assert_eq!(results[2].configs.len(), 29, "no names are all of them");
    assert!(results[2].configs.iter().all(|it| it.synonyms.is_empty() && it.documentation.is_none()));
    assert!(client.ask::<DescribeConfigs>(1, &describe(vec![])).await.results.is_empty());
}

#[tokio::test]
async fn the_node_shows_what_it_was_told_and_what_of_it_can_be_changed() {
    let node = Node::with(NodeOptions { node_id: 7, partitions: 4, ..NodeOptions::default() }).await;
    let mut client = node.client().await;
    let result = described(&mut client, BROKER, "7").await;
    let of = |name: &str| {
        let found = result.configs.iter().find(|it| &*it.name == name).unwrap();
        (found.value.as_deref().unwrap(), found.config_source, found.config_type)
    };
    assert_eq!(of("node.id"), ("7", 4, 3));
    assert_eq!(of("num.partitions"), ("4", 4, 3));
    assert_eq!(of("auto.create.topics.enable"), ("false", 5, 1));
    assert_eq!(of("connections.max.idle.ms"), ("600000", 5, 5));
    assert_eq!(of("log.cleanup.policy"), ("delete", 5, 7));
    assert!(result.configs.iter().all(|it| it.documentation.is_some()));
    let alterable = result.configs.iter().filter(|it| !it.read_only).map(|it| &*it.name);
    assert_eq!(alterable.collect::<Vec<_>>(), OF_ALL_TOPICS);
    let partitions = result.configs.iter().find(|it| &*it.name == "num.partitions").unwrap();
    assert_eq!(partitions.synonyms.iter().map(|it| it.source).collect::<Vec<_>>(), [4, 5]);
    let of_all = described(&mut client, BROKER, "").await;
    assert_eq!((of_all.error_code, of_all.configs.len()), (0, 0), "nothing was changed for all nodes");
    let refused = altered(&mut client, BROKER, "7", &[("num.partitions", 0, Some("1"))], false).await;
    assert_eq!(refused.error_code, 42);
    assert!(refused.error_message.unwrap().contains("while it runs"));
}

const OF_ALL_TOPICS: [&str; 12] = [
    "min.insync.replicas",
    "unclean.leader.election.enable",
    "log.flush.interval.messages",
    "log.flush.interval.ms",
    "log.segment.delete.delay.ms",
    "log.index.interval.bytes",
    "log.index.size.max.bytes",
    "log.roll.jitter.ms",
    "log.preallocate",
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.zstd.level",
];

/// Name, value and where that comes from, of a setting of the node or of a topic.
async fn row(client: &mut Client, kind: i8, of: &str, name: &str) -> Option<(String, i8)> {
    let result = described(client, kind, of).await;
    let found = result.configs.into_iter().find(|it| &*it.name == name)?;
    Some((found.value.unwrap().to_string(), found.config_source))
}

/// Programs that compare what they wanted with what there is set them, and find them again: also after the node was
/// started anew.
#[tokio::test]
async fn what_changes_nothing_is_kept_of_a_topic_and_of_all() {
    const NO_LIMIT: &str = "9223372036854775807";
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    let was = |value: &str, source| Some((value.to_string(), source));
    let wanted = [("log.flush.interval.messages", 0, Some("1234")), ("min.insync.replicas", 0, Some("2"))];
    for only_checks in [true, false] {
        let altered = altered(&mut client, BROKER, "1", &wanted, only_checks).await;
        assert_eq!((altered.error_code, altered.error_message), (0, None));
        let expected = if only_checks { was(NO_LIMIT, 5) } else { was("1234", 2) };
        assert_eq!(row(&mut client, BROKER, "1", "log.flush.interval.messages").await, expected);
    }
    let throttled = "leader.replication.throttled.replicas";
    let wanted = [
        ("min.insync.replicas", 0, Some("3")),
        ("flush.ms", 0, Some("0")),
        ("file.delete.delay.ms", 0, Some("1000")),
        (throttled, 2, Some("0:1")),
        (throttled, 2, Some("1:1")),
    ];
    let appended = [wanted[3]];
    assert_eq!(altered(&mut client, TOPIC, "orders", &appended, false).await.error_code, 0);
    let wanted = [&wanted[..3], &wanted[4..]].concat();
    assert_eq!(altered(&mut client, TOPIC, "orders", &wanted, false).await.error_code, 0);
    let of_all = described(&mut client, BROKER, "").await.configs;
    let of_all = of_all.iter().map(|it| (&*it.name, it.value.as_deref().unwrap()));
    let set = [("min.insync.replicas", "2"), ("log.flush.interval.messages", "1234")];
    assert_eq!(of_all.collect::<Vec<_>>(), set, "no name: what was set while the node ran");

    let (directory, log) = (node.directory, node.log);
    drop(client);
    node.running.stop().await;
    log.close().unwrap();
    let log = exactlog::Log::open(directory.path().join("data")).unwrap();
    let node = Node::serving(log, NodeOptions::default()).await;
    let mut client = node.client().await;
    for (kind, of, name, expected) in [
        (BROKER, "1", "log.flush.interval.messages", was("1234", 2)),
        (BROKER, "1", "log.flush.interval.ms", was(NO_LIMIT, 5)),
        (BROKER, "1", "min.insync.replicas", was("2", 2)),
        (TOPIC, "orders", "flush.messages", was("1234", 2)),
        (TOPIC, "orders", "flush.ms", was("0", 1)),
        (TOPIC, "orders", "file.delete.delay.ms", was("1000", 1)),
        (TOPIC, "orders", throttled, was("0:1,1:1", 1)),
        (TOPIC, "orders", "min.insync.replicas", was("3", 1)),
        (TOPIC, "orders", "unclean.leader.election.enable", was("false", 5)),
    ] {
        assert_eq!(row(&mut client, kind, of, name).await, expected, "{name} of {kind} {of}");
    }
    let reset = [("min.insync.replicas", 1, None)];
    assert_eq!(altered(&mut client, TOPIC, "orders", &reset, false).await.error_code, 0);
    assert_eq!(row(&mut client, TOPIC, "orders", "min.insync.replicas").await, was("2", 2));
    // All at once: what isn't named goes.
    let config = |name: &str, value: &str| alter_configs::AlterableConfig {
        name: name.into(),
        value: Some(value.into()),
    };
    let resource = alter_configs::AlterConfigsResource {
        resource_type: BROKER,
        resource_name: "1".into(),
        configs: vec![config("log.flush.interval.ms", "9")],
    };
    let request = alter_configs::Request { resources: vec![resource], validate_only: false };
    assert_eq!(client.ask::<AlterConfigs>(2, &request).await.responses[0].error_code, 0);
    assert_eq!(row(&mut client, BROKER, "1", "log.flush.interval.messages").await, was(NO_LIMIT, 5));
    assert_eq!(row(&mut client, TOPIC, "orders", "min.insync.replicas").await, was("1", 5));
    assert_eq!(row(&mut client, BROKER, "", "log.flush.interval.ms").await, was("9", 2));

    for (name, operation, value, code) in [
        ("min.insync.replicas", 0, Some("0"), 40),
        ("log.flush.interval.messages", 0, Some("0"), 40),
        ("log.flush.interval.messages", 0, Some("all"), 40),
        ("log.flush.interval.ms", 2, Some("1"), 40),
        ("unclean.leader.election.enable", 0, Some("maybe"), 40),
        ("flush.ms", 0, Some("1"), 42),
        ("listeners", 0, Some("PLAINTEXT://:1"), 42),
    ] {
        let refused = altered(&mut client, BROKER, "1", &[(name, operation, value)], false).await;
        assert_eq!(refused.error_code, code, "{name} {value:?}: {refused:?}");
        assert!(
            refused
                .error_message
                .is_some_and(|it| it.contains(name.trim_start_matches("log.")) || it.contains("flush."))
        );
    }
    assert_eq!(altered(&mut client, BROKER, "2", &[], false).await.error_code, 42, "there is no such node");
}

/// Nobody would keep that promise.
#[tokio::test]
async fn syncs_are_not_promised_where_acknowledgements_do_not_wait_for_them() {
    let directory = tempfile::tempdir().unwrap();
    let log = exactlog::Log::builder().durability(exactlog::Durability::Os).open(directory.path()).unwrap();
    log.create_topic("orders", TopicOptions::default()).unwrap();
    let weak = Node::serving(log, NodeOptions::default()).await;
    let node = Node::start().await;
    let own = TopicOptions::default().durability(exactlog::TopicDurability::Os);
    node.log.create_topic("orders", own).unwrap();
    for node in [&weak, &node] {
        let mut client = node.client().await;
        for wanted in [("flush.ms", 0, Some("1000")), ("flush.messages", 0, Some("1"))] {
            let refused = altered(&mut client, TOPIC, "orders", &[wanted], false).await;
            assert_eq!(refused.error_code, 40, "{wanted:?}");
            assert!(refused.error_message.unwrap().contains("durability=fsync"));
        }
        let none = [("flush.ms", 0, Some("9223372036854775807")), ("min.insync.replicas", 0, Some("2"))];
        assert_eq!(altered(&mut client, TOPIC, "orders", &none, false).await.error_code, 0);
    }
    let wanted = [("log.flush.interval.ms", 0, Some("1000"))];
    let refused = altered(&mut weak.client().await, BROKER, "1", &wanted, false).await;
    assert_eq!(refused.error_code, 40);
}

#[tokio::test]
async fn what_has_no_settings_has_its_code_and_the_rest_is_described() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    let wanted = [
        (TOPIC, "ordres", 3, "ordres"),
        (TOPIC, "no/name", 17, "no/name"),
        (TOPIC, "", 17, "legal"),
        (BROKER, "2", 42, "1 is the only one"),
        (BROKER, "one", 42, "one"),
        (8, "1", 42, "type 8"),
        (16, "metrics", 42, "type 16"),
        (32, "group", 42, "type 32"),
        (0, "", 42, "type 0"),
        (TOPIC, "orders", 0, ""),
    ];
    let request = describe(wanted.iter().map(|(kind, name, ..)| resource(*kind, name, None)).collect());
    let results = client.ask::<DescribeConfigs>(2, &request).await.results;
    assert_eq!(results.len(), wanted.len());
    for (result, (kind, name, code, says)) in results.iter().zip(wanted) {
        assert_eq!((result.resource_type, &*result.resource_name, result.error_code), (kind, name, code));
        assert_eq!(result.configs.is_empty(), code != 0);
        assert!(result.error_message.as_deref().unwrap_or_default().contains(says), "{result:?}");
    }
}

/// Name, operation (0 set, 1 delete, 2 append, 3 subtract) and value.
type Change<'a> = (&'a str, i8, Option<&'a str>);

fn changes(kind: i8, name: &str, changes: &[Change<'_>]) -> incremental_alter_configs::AlterConfigsResource {
    let change = |(name, operation, value): &Change<'_>| incremental_alter_configs::AlterableConfig {
        name: (*name).into(),
        config_operation: *operation,
        value: value.map(Str::from),
    };
    incremental_alter_configs::AlterConfigsResource {
        resource_type: kind,
        resource_name: name.into(),
        configs: changes.iter().map(change).collect(),
    }
}

async fn altered(
    client: &mut Client,
    kind: i8,
    name: &str,
    wanted: &[Change<'_>],
    validate_only: bool,
) -> incremental_alter_configs::AlterConfigsResourceResponse {
    let request =
        incremental_alter_configs::Request { resources: vec![changes(kind, name, wanted)], validate_only };
    client.ask::<IncrementalAlterConfigs>(1, &request).await.responses.remove(0)
}

#[tokio::test]
async fn every_version_changes_some_settings_and_leaves_the_others() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    for version in 0..=1 {
        let retention = (1000 + i32::from(version)).to_string();
        let wanted = [("retention.ms", 0, Some(&*retention)), ("segment.ms", 0, Some("5000"))];
        let request = incremental_alter_configs::Request {
            resources: vec![changes(TOPIC, "orders", &wanted)],
            validate_only: false,
        };
        let response = client.ask::<IncrementalAlterConfigs>(version, &request).await.responses.remove(0);
        assert_eq!((response.error_code, &response.error_message), (0, &None), "version {version}");
        assert_eq!((response.resource_type, &*response.resource_name), (TOPIC, "orders"));
        assert_eq!(value(&mut client, "orders", "retention.ms").await, retention);
        let wanted = [("segment.ms", 1, None), ("no.such.setting", 1, None)];
        assert_eq!(altered(&mut client, TOPIC, "orders", &wanted, false).await.error_code, 0);
        assert_eq!(value(&mut client, "orders", "segment.ms").await, "604800000");
        assert_eq!(value(&mut client, "orders", "retention.ms").await, retention, "it stays");
    }
}

#[tokio::test]
async fn elements_come_into_lists_and_go_out_of_them() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    for (operation, elements, code, left) in [
        (2, "compact", 0, "compact,delete"),
        (2, "compact, delete", 0, "compact,delete"),
        (3, "delete", 0, "compact"),
        (3, "delete", 0, "compact"),
        (3, "compact", 40, "compact"),
        (2, "shred", 40, "compact"),
        (3, "shred", 0, "compact"),
        (0, "delete , compact", 0, "compact,delete"),
        (1, "", 0, "delete"),
    ] {
        let wanted = [("cleanup.policy", operation, Some(elements))];
        let response = altered(&mut client, TOPIC, "orders", &wanted, false).await;
        assert_eq!(response.error_code, code, "{operation} {elements}: {response:?}");
        assert_eq!(value(&mut client, "orders", "cleanup.policy").await, left);
    }
}

#[tokio::test]
async fn what_cannot_be_set_is_refused_as_a_whole_also_when_it_is_only_checked() {
    let node = Node::with_topic("orders", 1).await;
    node.log.create_table("stock", TableOptions::default()).unwrap();
    let mut client = node.client().await;
    let good = ("retention.ms", 0, Some("1"));
    for (kind, topic, wanted, code, says) in [
        (TOPIC, "orders", ("segment.ms", 0, Some("0")), 40, "segment.ms"),
        (TOPIC, "orders", ("segment.ms", 0, Some("soon")), 40, "soon"),
        (TOPIC, "orders", ("max.message.bytes", 0, Some("17000000")), 40, "16777216"),
        (TOPIC, "orders", ("no.such.setting", 0, Some("1")), 40, "no.such.setting"),
        (TOPIC, "orders", ("no.such.list", 2, Some("1")), 40, "no.such.list"),
        (TOPIC, "orders", ("segment.ms", 2, Some("1")), 40, "APPEND"),
        (TOPIC, "orders", ("segment.ms", 3, Some("1")), 40, "SUBTRACT"),
        (TOPIC, "orders", ("segment.ms", 0, None), 42, "segment.ms"),
        (TOPIC, "orders", ("cleanup.policy", 2, None), 42, "cleanup.policy"),
        (TOPIC, "orders", ("segment.ms", 4, Some("1")), 42, "operation 4"),
        (TOPIC, "orders", ("retention.ms", 0, Some("2")), 42, "twice"),
        (TOPIC, "stock", ("cleanup.policy", 0, Some("delete")), 40, "table"),
        (TOPIC, "ordres", ("segment.ms", 0, Some("1")), 3, "ordres"),
        (TOPIC, "no/name", ("segment.ms", 0, Some("1")), 17, "no/name"),
        (TOPIC, "", ("segment.ms", 0, Some("1")), 42, "without a name"),
        (BROKER, "", ("log.retention.ms", 0, Some("1")), 42, "while it runs"),
        (8, "1", ("root", 0, Some("INFO")), 42, "type 8"),
    ] {
        for only_checks in [true, false] {
            let response = altered(&mut client, kind, topic, &[good, wanted], only_checks).await;
            assert_eq!(response.error_code, code, "{wanted:?}: {response:?}");
            assert!(response.error_message.as_ref().unwrap().contains(says), "{response:?}");
        }
    }
    assert_eq!(altered(&mut client, TOPIC, "orders", &[good], true).await.error_code, 0);
    assert_eq!(node.log.open_topic("orders").unwrap().config(), &exactlog::TopicConfig::default());
}

#[tokio::test]
async fn each_resource_goes_by_itself_and_one_that_is_named_twice_stays() {
    let node = Node::with_topic("orders", 1).await;
    node.log.create_topic("payments", TopicOptions::default()).unwrap();
    let mut client = node.client().await;
    let wanted = [("retention.ms", 0, Some("1"))];
    let resources =
        [(TOPIC, "orders"), (TOPIC, "ordres"), (BROKER, "1"), (TOPIC, "payments"), (TOPIC, "orders")]
            .map(|(kind, name)| changes(kind, name, &wanted));
    let request = incremental_alter_configs::Request { resources: resources.to_vec(), validate_only: false };
    let responses = client.ask::<IncrementalAlterConfigs>(1, &request).await.responses;
    let codes: Vec<i16> = responses.iter().map(|it| it.error_code).collect();
    assert_eq!(codes, [42, 3, 42, 0, 42]);
    assert_eq!(value(&mut client, "payments", "retention.ms").await, "1");
    assert_eq!(value(&mut client, "orders", "retention.ms").await, "-1");
}

#[tokio::test]
async fn every_version_replaces_all_settings() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    let request = |configs: &[(&str, Option<&str>)], validate_only| {
        let config = |(name, value): &(&str, Option<&str>)| alter_configs::AlterableConfig {
            name: (*name).into(),
            value: value.map(Str::from),
        };
        let resource = alter_configs::AlterConfigsResource {
            resource_type: TOPIC,
            resource_name: "orders".into(),
            configs: configs.iter().map(config).collect(),
        };
        alter_configs::Request { resources: vec![resource], validate_only }
    };
    for version in 0..=2 {
        let both = request(&[("retention.ms", Some("7")), ("segment.ms", Some("8"))], false);
        assert_eq!(client.ask::<AlterConfigs>(version, &both).await.responses[0].error_code, 0);
        let checked = request(&[("retention.ms", Some("9"))], true);
        assert_eq!(client.ask::<AlterConfigs>(version, &checked).await.responses[0].error_code, 0);
        assert_eq!(value(&mut client, "orders", "retention.ms").await, "7", "version {version}");
        let one = request(&[("segment.ms", Some("9"))], false);
        assert_eq!(client.ask::<AlterConfigs>(version, &one).await.responses[0].error_code, 0);
        assert_eq!(value(&mut client, "orders", "retention.ms").await, "-1", "what isn't named goes");
        assert_eq!(value(&mut client, "orders", "segment.ms").await, "9");
        for (name, value, code) in
            [("segment.ms", Some("x"), 40), ("none", Some("1"), 40), ("segment.ms", None, 42)]
        {
            let wrong = request(&[("retention.ms", Some("3")), (name, value)], false);
            let response = client.ask::<AlterConfigs>(version, &wrong).await.responses.remove(0);
            assert_eq!(response.error_code, code, "{response:?}");
            assert!(response.error_message.unwrap().contains(name));
        }
        assert_eq!(value(&mut client, "orders", "segment.ms").await, "9");
        let none = request(&[], false);
        assert_eq!(client.ask::<AlterConfigs>(version, &none).await.responses[0].error_code, 0);
        assert_eq!(value(&mut client, "orders", "segment.ms").await, "604800000");
    }
}

/// Each of them changes another setting of the same topic, and none takes back what another has done.
#[tokio::test]
async fn of_changes_at_the_same_time_all_count() {
    const TIMES: usize = 20;
    let names = ["retention.ms", "segment.ms", "retention.bytes", "delete.retention.ms"];
    let node = Node::with_topic("orders", 1).await;
    let mut all = tokio::task::JoinSet::new();
    for name in names {
        let address = node.running.address();
        all.spawn(async move {
            let mut client = Client::connect(address).await;
            for value in 1..=TIMES {
                let wanted = [(name, 0, Some(&*value.to_string()))];
                assert_eq!(altered(&mut client, TOPIC, "orders", &wanted, false).await.error_code, 0);
            }
        });
    }
    all.join_all().await;
    let mut client = node.client().await;
    for name in names {
        assert_eq!(value(&mut client, "orders", name).await, TIMES.to_string(), "{name}");
    }
}

#[tokio::test]
async fn every_version_lists_what_has_settings() {
    let node = Node::with_topic("orders", 1).await;
    node.log.create_topic("payments", TopicOptions::default()).unwrap();
    let mut client = node.client().await;
    let request = |types: &[i8]| list_config_resources::Request { resource_types: types.to_vec() };
    let old = client.ask::<ListConfigResources>(0, &request(&[])).await;
    assert_eq!((old.error_code, old.config_resources.len()), (0, 0), "of clients' metrics there are none");
    for (types, expected) in [
        (&[][..], &["1/4", "orders/2", "payments/2"][..]),
        (&[TOPIC], &["orders/2", "payments/2"]),
        (&[TOPIC, TOPIC], &["orders/2", "payments/2"]),
        (&[BROKER], &["1/4"]),
        (&[8, 16, 32], &[]),
    ] {
        let response = client.ask::<ListConfigResources>(1, &request(types)).await;
        let found = response.config_resources.iter();
        let found: Vec<String> =
            found.map(|it| format!("{}/{}", &*it.resource_name, it.resource_type)).collect();
        assert_eq!(response.error_code, 0);
        let sorted: BTreeSet<&str> = found.iter().map(String::as_str).collect();
        assert_eq!((found.len(), sorted), (expected.len(), expected.iter().copied().collect()), "{types:?}");
    }
    assert_eq!(client.ask::<ListConfigResources>(1, &request(&[TOPIC, 3])).await.error_code, 35);
}

/// CreateTopics that only checks refuses what it would refuse.
#[tokio::test]
async fn a_topic_that_is_only_checked_is_checked_as_one_that_is_created() {
    let node = Node::with_topic("there", 1).await;
    let mut client = node.client().await;
    for (name, partitions, setting, code) in [
        ("there", 1, None, 36),
        ("there", 2, None, 36),
        ("many", 100_001, None, 37),
        ("__timers-1", 1, None, 17),
        ("new", 1, Some(("segment.ms", "0")), 40),
        ("new", 1, Some(("cleanup.policy", "compact, delete")), 0),
    ] {
        let config = |(name, value): (&str, &str)| create_topics::CreatableTopicConfig {
            name: name.into(),
            value: Some(value.into()),
        };
        let topic = create_topics::CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
            configs: setting.map(config).into_iter().collect(),
            ..Default::default()
        };
        let request =
            create_topics::Request { topics: vec![topic], validate_only: true, ..Default::default() };
        let created = client.ask::<CreateTopics>(7, &request).await.topics.remove(0);
        assert_eq!(created.error_code, code, "{created:?}");
        assert_eq!(created.topic_id, Default::default());
    }
    assert_eq!(node.log.topics().len(), 1);
}
