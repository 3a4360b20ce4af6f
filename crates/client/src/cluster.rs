//! The nodes of a cluster behind one address: who has to be asked, and when asking again helps.
//!
//! ```text
//!   ask(whom, request, check)
//!     whom    anybody · a node · the leader of a partition · the coordinator of a group or a transactional id
//!     check   what the answer says: a result, or a code
//!               a code that passes (Code::is_retriable)   again, after a pause, until the deadline
//!               a code that says "elsewhere"              the same, and what was known of nodes is asked for anew
//!               any other                                 Error::Refused
//! ```
//!
//! Invariants
//!   * a request whose answer got lost is only sent again if doing it twice is doing it once: what reads, and what the
//!     caller says so of
//!   * nothing is tried beyond the deadline, and the last error is the one that is told

use crate::code::Code;
use crate::connection::{Connection, Options};
use crate::error::Error;
use exactlog_wire::messages::{
    ApiVersions, ConsumerGroupDescribe, DescribeCluster, DescribeConfigs, DescribeGroups, DescribeProducers,
    DescribeTransactions, Fetch, FindCoordinator, InitProducerId, ListGroups, ListOffsets, ListTransactions,
    Metadata, OffsetFetch, find_coordinator, metadata,
};
use exactlog_wire::schema::Api;
use exactlog_wire::value::Str;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The first pause before another try, and the longest.
const PAUSE_LEAST: Duration = Duration::from_millis(50);
const PAUSE_MOST: Duration = Duration::from_secs(1);

/// Whom a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To<'a> {
    /// Whoever answers.
    Any,
    /// A node, by its number.
    Node(i32),
    /// The node that leads a partition.
    Leader(&'a str, i32),
    /// The coordinator of a group.
    Group(&'a str),
    /// The coordinator of a transactional id.
    Transaction(&'a str),
}

/// That a node says no, or not yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Kafka's code.
    pub code: Code,
    /// What the node says besides.
    pub message: Option<String>,
}

impl Refused {
    /// What a field `error_code` says.
    ///
    /// # Errors
    /// If it isn't that all is well.
    pub fn check(code: i16, message: Option<&Str>) -> Result<(), Refused> {
        match Code(code) {
            Code::NONE => Ok(()),
            code => Err(Refused { code, message: message.map(|message| message.to_string()) }),
        }
    }
}

/// A cluster, of which one node at least is known by its address.
#[derive(Debug)]
pub struct Cluster {
    bootstrap: Vec<String>,
    options: Options,
    /// How long one request may take with all its tries.
    deadline: Duration,
    connections: BTreeMap<String, Connection>,
    /// Address of each node. Empty: not asked for, or out of date.
    nodes: BTreeMap<i32, String>,
    leaders: BTreeMap<(String, i32), i32>,
    /// By kind of key (of FindCoordinator) and key: the address.
    coordinators: BTreeMap<(i8, String), String>,
}

impl Cluster {
    /// The cluster behind an address, or several with commas between: connects to the first that answers.
    ///
    /// # Errors
    /// As [`Connection::connect`]: that of the last address.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn connect(bootstrap: &str, options: Options) -> Result<Cluster, Error> {
        let bootstrap = bootstrap.split(',').map(|address| address.trim().to_string()).collect();
        let mut cluster = Cluster {
            bootstrap,
            options,
            deadline: Duration::from_secs(30),
            connections: BTreeMap::new(),
            nodes: BTreeMap::new(),
            leaders: BTreeMap::new(),
            coordinators: BTreeMap::new(),
        };
        cluster.anybody().await?;
        Ok(cluster)
    }

    /// Sets how long one request may take with all its tries. Default: 30 s.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Cluster {
        self.deadline = deadline;
        self
    }

    /// Asks, again where that helps, and answers what `check` makes of the answer. After a connection broke only what
    /// reads is asked again; [`ask_repeatable`](Cluster::ask_repeatable) is for the rest.
    ///
    /// # Errors
    /// [`Error::Refused`] with what `check` says; as [`Connection::ask`].
    ///
    /// # Cancel safety
    /// Dropped, the request may have been done all the same.
    pub async fn ask<A: Api, T>(
        &mut self,
        to: To<'_>,
        request: &A::Request,
        check: impl FnMut(A::Response) -> Result<T, Refused>,
    ) -> Result<T, Error> {
        self.ask_up_to::<A, T>(i16::MAX, to, request, reads::<A>(), check).await
    }

    /// As [`ask`](Cluster::ask), of a request that may be done twice, since that is as doing it once.
    ///
    /// # Errors
    /// As [`ask`](Cluster::ask).
    ///
    /// # Cancel safety
    /// As [`ask`](Cluster::ask).
    pub async fn ask_repeatable<A: Api, T>(
        &mut self,
        to: To<'_>,
        request: &A::Request,
        check: impl FnMut(A::Response) -> Result<T, Refused>,
    ) -> Result<T, Error> {
        self.ask_up_to::<A, T>(i16::MAX, to, request, true, check).await
    }

    /// As [`ask`](Cluster::ask), in no version above one. `is_repeatable`: as
    /// [`ask_repeatable`](Cluster::ask_repeatable).
    ///
    /// # Errors
    /// As [`ask`](Cluster::ask).
    ///
    /// # Cancel safety
    /// As [`ask`](Cluster::ask).
    pub async fn ask_up_to<A: Api, T>(
        &mut self,
        version_most: i16,
        to: To<'_>,
        request: &A::Request,
        is_repeatable: bool,
        mut check: impl FnMut(A::Response) -> Result<T, Refused>,
    ) -> Result<T, Error> {
        let until = Instant::now() + self.deadline;
        let mut pause = PAUSE_LEAST;
        loop {
            let asked = self.once::<A, T>(version_most, to, request, &mut check).await;
            let error = match asked {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let helps = match &error {
                Error::Connect { .. } => !self.connections.is_empty() || !self.nodes.is_empty(),
                Error::Refused { code, .. } => passes(*code) && (is_repeatable || !code.leaves_open()),
                error => error.is_retriable() && is_repeatable,
            };
            if !helps || Instant::now() + pause > until {
                return Err(error);
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MOST);
        }
    }

    async fn once<A: Api, T>(
        &mut self,
        version_most: i16,
        to: To<'_>,
        request: &A::Request,
        check: &mut impl FnMut(A::Response) -> Result<T, Refused>,
    ) -> Result<T, Error> {
        let address = self.address_of(to).await?;
        let answered = self.ask_there::<A, T>(&address, version_most, request, check).await;
        if answered.as_ref().is_err_and(|error| error.code().is_some_and(Code::says_elsewhere)) {
            self.forget_places();
        }
        answered
    }

    /// Asks whoever has this address. A connection that broke isn't used again.
    async fn ask_there<A: Api, T>(
        &mut self,
        address: &str,
        version_most: i16,
        request: &A::Request,
        check: impl FnOnce(A::Response) -> Result<T, Refused>,
    ) -> Result<T, Error> {
        let connection = self.connected(address).await?;
        let version = connection.version_up_to::<A>(version_most)?;
        let answered = connection.ask_at::<A>(version, request).await;
        let answered = answered.and_then(|response| {
            check(response).map_err(|refused| connection.refused::<A>(refused.code, refused.message))
        });
        if answered.as_ref().is_err_and(|error| error.is_broken() || connection.is_torn()) {
            self.forget(address);
        }
        answered
    }

    /// What is known of nodes and topics: of these, or of all.
    ///
    /// # Errors
    /// As [`ask`](Cluster::ask). What is wrong with single topics is told in the response.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn metadata(&mut self, topics: Option<&[&str]>) -> Result<metadata::Response, Error> {
        let named =
            |name: &&str| metadata::MetadataRequestTopic { name: Some((*name).into()), ..Default::default() };
        let request = metadata::Request {
            topics: topics.map(|topics| topics.iter().map(named).collect()),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let address = self.anybody().await?;
        let response = self.ask_there::<Metadata, _>(&address, i16::MAX, &request, Ok).await?;
        self.nodes = response
            .brokers
            .iter()
            .map(|node| (node.node_id, format!("{}:{}", node.host, node.port)))
            .collect();
        for topic in &response.topics {
            let Some(name) = &topic.name else { continue };
            for partition in topic.partitions.iter().filter(|partition| partition.leader_id >= 0) {
                self.leaders.insert((name.to_string(), partition.partition_index), partition.leader_id);
            }
        }
        Ok(response)
    }

    /// The numbers of all nodes.
    ///
    /// # Errors
    /// As [`metadata`](Cluster::metadata).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn node_ids(&mut self) -> Result<Vec<i32>, Error> {
        if self.nodes.is_empty() {
            self.metadata(Some(&[])).await?;
        }
        Ok(self.nodes.keys().copied().collect())
    }

    /// The node that leads a partition.
    ///
    /// # Errors
    /// As [`metadata`](Cluster::metadata); [`Error::Refused`] if nobody leads it.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn leader(&mut self, topic: &str, partition: i32) -> Result<i32, Error> {
        let place = (topic.to_string(), partition);
        if let Some(node) = self.leaders.get(&place) {
            return Ok(*node);
        }
        let response = self.metadata(Some(&[topic])).await?;
        if let Some(node) = self.leaders.get(&place) {
            return Ok(*node);
        }
        let found = response.topics.first();
        let of_partition = found.and_then(|topic| {
            topic.partitions.iter().find(|it| it.partition_index == partition).map(|it| it.error_code)
        });
        let code = found.map_or(0, |topic| topic.error_code);
        let code = [code, of_partition.unwrap_or(0), Code::UNKNOWN_TOPIC_OR_PARTITION.0];
        let code = code.into_iter().map(Code).find(|code| *code != Code::NONE);
        let address = self.anybody().await?;
        let (code, message) =
            (code.unwrap_or(Code::NONE), Some(format!("topic {topic} partition {partition}")));
        Err(Error::Refused { address: address.as_str().into(), api: Metadata::NAME, code, message })
    }

    async fn address_of(&mut self, to: To<'_>) -> Result<String, Error> {
        match to {
            To::Any => self.anybody().await,
            To::Node(node) => self.address_of_node(node).await,
            To::Leader(topic, partition) => {
                let node = self.leader(topic, partition).await?;
                self.address_of_node(node).await
            }
            To::Group(group) => self.coordinator(0, group).await,
            To::Transaction(id) => self.coordinator(1, id).await,
        }
    }

    async fn address_of_node(&mut self, node: i32) -> Result<String, Error> {
        if !self.nodes.contains_key(&node) {
            self.metadata(Some(&[])).await?;
        }
        match self.nodes.get(&node) {
            Some(address) => Ok(address.clone()),
            None => Err(Error::Address { address: format!("node {node}") }),
        }
    }

    async fn coordinator(&mut self, kind: i8, key: &str) -> Result<String, Error> {
        let place = (kind, key.to_string());
        if let Some(address) = self.coordinators.get(&place) {
            return Ok(address.clone());
        }
        let address = self.anybody().await?;
        // Of both forms that of the version is written.
        let coordinator_keys = vec![key.into()];
        let request = find_coordinator::Request { key: key.into(), key_type: kind, coordinator_keys };
        let check = |mut response: find_coordinator::Response| {
            let found = response.coordinators.pop().unwrap_or(find_coordinator::Coordinator {
                error_code: response.error_code,
                error_message: response.error_message,
                host: response.host,
                port: response.port,
                ..Default::default()
            });
            Refused::check(found.error_code, found.error_message.as_ref()).map(|()| found)
        };
        let found = self.ask_there::<FindCoordinator, _>(&address, i16::MAX, &request, check).await?;
        let address = format!("{}:{}", found.host, found.port);
        self.coordinators.insert(place, address.clone());
        Ok(address)
    }

    /// The address of somebody who answers: who is connected, else who is known.
    async fn anybody(&mut self) -> Result<String, Error> {
        if let Some(address) = self.connections.keys().next() {
            return Ok(address.clone());
        }
        let addresses: Vec<String> = self.bootstrap.iter().chain(self.nodes.values()).cloned().collect();
        let mut last = Error::Address { address: String::new() };
        for address in addresses {
            match self.connected(&address).await {
                Ok(_) => return Ok(address),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connected(&mut self, address: &str) -> Result<&mut Connection, Error> {
        if !self.connections.contains_key(address) {
            let connection = Connection::connect(address, self.options.clone()).await?;
            self.connections.insert(address.to_string(), connection);
        }
        Ok(self.connections.get_mut(address).expect("it is there, or was put there"))
    }

    fn forget(&mut self, address: &str) {
        self.connections.remove(address);
        self.forget_places();
    }

    fn forget_places(&mut self) {
        self.leaders.clear();
        self.coordinators.clear();
    }
}

/// Whether a code passes by itself. That a topic isn't known doesn't here: whoever has just created it was answered
/// when it was there.
fn passes(code: Code) -> bool {
    code.is_retriable() && ![Code::UNKNOWN_TOPIC_OR_PARTITION, Code::UNKNOWN_TOPIC_ID].contains(&code)
}

/// Whether an API changes nothing, or nothing that anybody holds on to.
fn reads<A: Api>() -> bool {
    [
        ApiVersions::KEY,
        ConsumerGroupDescribe::KEY,
        DescribeCluster::KEY,
        DescribeConfigs::KEY,
        DescribeGroups::KEY,
        DescribeProducers::KEY,
        DescribeTransactions::KEY,
        Fetch::KEY,
        FindCoordinator::KEY,
        InitProducerId::KEY,
        ListGroups::KEY,
        ListOffsets::KEY,
        ListTransactions::KEY,
        Metadata::KEY,
        OffsetFetch::KEY,
    ]
    .contains(&A::KEY)
}
