//! What has to be so at the end, read from the log as of one moment.

use crate::House;
use crate::shop::{ITEMS, Order, Trouble, comes_twice, first_stock, order, trouble};
use exactlog::{ReadView, Topic};
use exactlog_flow::inspect;
use std::collections::BTreeMap;
use std::error::Error;

/// How often each order's number is a key of a topic.
fn keys(view: &ReadView, topic: &Topic) -> Result<BTreeMap<u64, u64>, Box<dyn Error + Send + Sync>> {
    let mut keys = BTreeMap::new();
    for record in view.records(topic) {
        *keys.entry(record?.key_str()?.parse()?).or_default() += 1;
    }
    Ok(keys)
}

/// Collects what isn't as it should be.
struct Findings(Vec<String>);

impl Findings {
    fn same<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, found: T, expected: T) {
        if found != expected {
            self.0.push(format!("{what}: {found:?}, and not {expected:?}"));
        }
    }
}

pub(crate) fn check(house: &House, orders: u64) -> Result<(), Box<dyn Error + Send + Sync>> {
    let view = house.log.read_view();
    let (shipped, refunded) = (keys(&view, &house.shipped)?, keys(&view, &house.refunds)?);
    let dead_letters = house.log.open_topic("dlq.order-events")?;
    let (dead, told) = (keys(&view, &dead_letters)?, keys(&view, &house.mails)?);
    let mut findings = Findings(Vec::new());
    let (mut money, mut taken) = (0, BTreeMap::new());
    for id in 0..orders {
        let ends = [&shipped, &refunded, &dead].map(|ends| ends.get(&id).copied().unwrap_or(0));
        let Order { item, quantity, cents, .. } = order(id, orders);
        // Of what is dead a copy is as dead.
        let copies = if comes_twice(id) { 2 } else { 1 };
        let is_dead = matches!(trouble(id), Trouble::Declined | Trouble::Unreadable | Trouble::Unanswered(3));
        match is_dead {
            true => findings.same(&format!("order {id}"), ends, [0, 0, copies]),
            false => findings.same(&format!("order {id}"), ends[0] + ends[1], 1),
        }
        findings.same(
            &format!("mails for order {id}"),
            told.get(&id).copied().unwrap_or(0),
            u64::from(!is_dead),
        );
        if ends[0] == 1 {
            money += cents;
            *taken.entry(item).or_insert(0) += quantity;
        }
    }
    let paid: u64 = match view.get(&house.money, "EUR")? {
        Some(entry) => entry.json()?,
        None => 0,
    };
    findings.same("money", paid, money);
    for item in ITEMS {
        let first = first_stock(item, orders);
        let left: u64 = match view.get(&house.stock, item)? {
            Some(entry) => entry.json()?,
            None => first,
        };
        findings.same(&format!("stock of {item}"), left, first - taken.get(item).copied().unwrap_or(0));
    }
    for group in ["payments", "inventory", "shipping", "refunds", "notifications"] {
        let state = inspect(&house.log, group)?;
        findings.same(&format!("{group}: what has ended"), state.counts.ended(), state.counts.read);
        findings.same(&format!("{group}: what waits"), state.waiting.len(), 0);
    }
    println!(
        "{orders} orders: {} shipped, {} refunded, {} dead; {paid} cents",
        shipped.len(),
        refunded.len(),
        dead.len()
    );
    if !findings.0.is_empty() {
        return Err(findings.0[..findings.0.len().min(20)].join("\n").into());
    }
    println!("each order has ended once, and money and stock add up");
    Ok(())
}
