//! A webhook: what is posted is on disk when it is answered, what is posted again is stored once, and the work is done
//! behind it.
//!
//! ```sh
//! cargo run --release -p exactlog-flow --example webhook
//! cargo run --release -p exactlog-flow --example webhook -- 127.0.0.1:8080   # serves until it is ended
//! curl -i 127.0.0.1:8080/payments -H 'webhook-id: p-9' -d '{"customer":"ada","cents":100}'
//! ```
//!
//! Without an address it posts to itself, each payment twice, and one without an id. The id that the sender gives is
//! the event's: the second post is answered as the first one, and nothing is stored. What follows from a payment is a
//! processor's business, so that the sender never waits for it. Run it again: all posts are copies, and the balances
//! stay. Kill it anywhere and post again: the same.
//!
//! `Inbound::receive` is what a handler of axum, actix or hyper would call, with the producer in its state. As much
//! HTTP as this needs is written by hand, so that the example needs none of them.

use exactlog::{Event, Log, Producer, Table, TableOptions, Topic, TopicOptions};
use exactlog_flow::{Context, Failure, Processor, Running};
use serde::Deserialize;
use std::error::Error;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

#[derive(Deserialize)]
struct Payment {
    customer: String,
    cents: u64,
}

struct Inbound {
    producer: Producer,
    payments: Topic,
}

impl Inbound {
    /// The status, when the payment is on disk. What is answered by 5xx, or not at all, is posted again: that is what
    /// the id is for.
    async fn receive(&self, id: &str, body: Vec<u8>) -> &'static str {
        if id.is_empty() {
            return "400 Bad Request"; // it couldn't be told from its copy
        }
        let Ok(payment) = serde_json::from_slice::<Payment>(&body) else {
            return "422 Unprocessable Content";
        };
        // The id isn't stored with the event: whoever reads it, and dead letters, have the header.
        let event = Event::new(payment.customer, body).header("message-id", id.to_owned()).id(id);
        match self.producer.send(&self.payments, event).await {
            Ok(receipt) if receipt.duplicate => "200 OK",
            Ok(_) => "202 Accepted",
            Err(exactlog::Error::EventTooLarge { .. }) => "413 Content Too Large",
            Err(_) => "503 Service Unavailable",
        }
    }
}

/// Adds each payment to its customer's balance, once.
fn book(log: &Log, payments: &Topic, balances: &Table) -> Result<Running, exactlog_flow::Error> {
    let balances = balances.clone();
    Processor::new(log, "booking").topic(payments).start(move |event: Context| {
        let balances = balances.clone();
        async move {
            let payment: Payment = event.json()?;
            let before: u64 = event.get_json(&balances, payment.customer.clone())?.unwrap_or(0);
            event.put_json(&balances, payment.customer, &(before + payment.cents))?;
            Ok::<_, Failure>(())
        }
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let log = Log::open("./exactlog-data/webhook")?;
    let payments = log.create_topic("payment-events", TopicOptions::default().partitions(10))?;
    let balances = log.create_table("balances", TableOptions::default())?;
    let booking = book(&log, &payments, &balances)?;
    let inbound = Arc::new(Inbound { producer: log.producer("webhook")?, payments: payments.clone() });

    let address = std::env::args().nth(1);
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:0")).await?;
    let at = listener.local_addr()?.to_string();
    if address.is_some() {
        println!("POST http://{at}/payments");
        return Ok(serve(listener, inbound).await?);
    }
    let serving = tokio::spawn(serve(listener, inbound));
    let posts = [("p-1", "ada", 1200), ("p-2", "grace", 300), ("p-1", "ada", 1200), ("p-2", "grace", 300)];
    for (id, customer, cents) in posts.into_iter().chain([("", "ada", 1)]) {
        let body = format!(r#"{{"customer":"{customer}","cents":{cents}}}"#);
        println!("post {id:<3}  {}", post(&at, id, &body).await?);
    }
    while log.lag("booking", &payments) > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    for entry in balances.scan(..) {
        let entry = entry?;
        println!("balance   {} {}", entry.key_str()?, entry.value_str()?);
    }
    serving.abort();
    Ok(booking.stop().await?)
}

async fn serve(listener: TcpListener, inbound: Arc<Inbound>) -> std::io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let inbound = inbound.clone();
        tokio::spawn(async move { answer(stream, &inbound).await });
    }
}

/// One request of a connection: its head line by line, its body, and the answer.
async fn answer(stream: TcpStream, inbound: &Inbound) -> std::io::Result<()> {
    const HEAD_BYTES_MAX: u64 = 16 * 1024;
    const BODY_BYTES_MAX: u64 = 1024 * 1024;
    let mut stream = BufReader::new(stream);
    let (mut id, mut length, mut head) = (String::new(), 0, (&mut stream).take(HEAD_BYTES_MAX).lines());
    while let Some(line) = head.next_line().await?.filter(|line| !line.is_empty()) {
        match line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim())) {
            Some((name, value)) if name == "webhook-id" => id = value.to_owned(),
            Some((name, value)) if name == "content-length" => length = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    let mut body = Vec::new();
    (&mut stream).take(BODY_BYTES_MAX.min(length)).read_to_end(&mut body).await?;
    let status = inbound.receive(&id, body).await;
    let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(answer.as_bytes()).await
}

/// What somebody else does: posts, and reads the status.
async fn post(at: &str, id: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(at).await?;
    let head = format!(
        "POST /payments HTTP/1.1\r\nhost: {at}\r\nwebhook-id: {id}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer
        .lines()
        .next()
        .and_then(|line| line.split_once(' '))
        .map_or("", |(_, status)| status)
        .to_owned())
}
