//! Customers, and what goes wrong with their orders: by the order's number, so that each run has the same ones.

use crate::House;
use exactlog::{Bytes, Event};
use serde::{Deserialize, Serialize};
use std::error::Error;

/// What there is of each item at first. Of shelves there isn't enough for everybody.
pub(crate) const ITEMS: [&str; 4] = ["chair", "desk", "lamp", "shelf"];

pub(crate) fn first_stock(item: &str, orders: u64) -> u64 {
    if item == "shelf" { orders / 4 } else { orders * 10 }
}

/// An order. Its number is the key of all events that follow from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) id: u64,
    pub(crate) item: String,
    pub(crate) quantity: u64,
    pub(crate) cents: u64,
    /// Of how many, for the first stock.
    pub(crate) orders: u64,
}

/// What is wrong with an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    None,
    /// So many attempts of a stage fail. Three are too many.
    Unanswered(u32),
    /// The bank says no.
    Declined,
    /// It isn't an order.
    Unreadable,
}

/// Of 1,000 orders: 50 unanswered at first (2 of them for good), 5 declined, 1 unreadable.
pub(crate) fn trouble(id: u64) -> Trouble {
    match mix(id) % 1000 {
        0..24 => Trouble::Unanswered(1),
        24..48 => Trouble::Unanswered(2),
        48..50 => Trouble::Unanswered(3),
        50..55 => Trouble::Declined,
        55 => Trouble::Unreadable,
        _ => Trouble::None,
    }
}

/// Three of a hundred come twice.
pub(crate) fn comes_twice(id: u64) -> bool {
    mix(id ^ 0xc0b1) % 100 < 3
}

/// A number that looks like any other (splitmix64).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

pub(crate) fn order(id: u64, orders: u64) -> Order {
    let item = ITEMS[id as usize % ITEMS.len()].to_string();
    let quantity = 1 + id % 3;
    Order { id, item, quantity, cents: quantity * (995 + mix(id) % 5000), orders }
}

/// Takes orders up to the wanted number. The cursor is the number of the next one, so a restart goes on there.
pub(crate) fn sell(house: &House, orders: u64) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut producer = house.log.producer("shop")?;
    let mut next = match producer.cursor() {
        Some(cursor) => u64::from_le_bytes(cursor.as_ref().try_into()?),
        None => 0,
    };
    while next < orders {
        let end = orders.min(next + 20);
        let mut transaction = producer.begin();
        for id in next..end {
            let value = match trouble(id) {
                Trouble::Unreadable => Bytes::from_static(b"\xfftwo chairs"),
                _ => serde_json::to_vec(&order(id, orders))?.into(),
            };
            let event = Event::new(id.to_string(), value).header("message-id", format!("order-{id}"));
            let event = event.header("type", "order.placed");
            if comes_twice(id) {
                transaction.send(&house.orders, event.clone())?;
            }
            transaction.send(&house.orders, event)?;
        }
        next = end;
        transaction.set_cursor(next.to_le_bytes().to_vec())?;
        transaction.blocking_commit()?;
    }
    Ok(())
}
