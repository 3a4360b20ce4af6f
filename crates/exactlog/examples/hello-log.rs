//! Open, append, read, and open again.
//!
//! ```sh
//! cargo run -p exactlog --example hello-log
//! cargo run -p exactlog --example hello-log
//! ```
//!
//! Look at the offsets: the second run appends behind what the first one stored, and reads only what is new to its
//! group. Delete `./exactlog-data/hello` to begin anew; another directory may be named as the argument.

use exactlog::{Event, Log, TopicOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args().nth(1).unwrap_or("./exactlog-data/hello".into());
    let log = Log::open(directory)?;
    let greetings = log.create_topic("greetings", TopicOptions::default())?; // or the one that is there

    let producer = log.producer("hello")?;
    for name in ["Ada", "Grace", "Barbara"] {
        let receipt = producer.blocking_send(&greetings, Event::new(name, format!("hello, {name}")))?;
        println!("stored  offset {}", receipt.offset); // now it survives a power loss
    }

    let mut consumer = log.consumer("readers").subscribe([&greetings])?;
    while let Some(batch) = consumer.try_next()? {
        for record in batch.blocking_ack()? {
            println!("read    offset {}  {}", record.offset, record.value_str()?);
        }
    }
    log.close()?; // dropping it does the same, but can't say what went wrong
    Ok(())
}
