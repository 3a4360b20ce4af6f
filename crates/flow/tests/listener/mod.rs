//! An HTTP server that notes what is posted to it, and answers as it is told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// What was posted: the path, and the bytes.
pub(crate) type Posted = (String, Vec<u8>);

pub(crate) struct Listener {
    /// `http://127.0.0.1:port`
    pub(crate) url: String,
    posted: Receiver<Posted>,
}

impl Listener {
    /// One that answers the nth request, from 0 on, with this status; `None`: never.
    pub(crate) fn start(answer: impl Fn(usize) -> Option<u16> + Send + 'static) -> Listener {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, posted) = channel();
        std::thread::spawn(move || serve(&listener, &sender, answer));
        Listener { url, posted }
    }

    /// The next one that is posted.
    pub(crate) fn next(&self) -> Posted {
        self.posted.recv_timeout(Duration::from_secs(60)).expect("somebody posts")
    }

    /// The next one, if it was posted by now.
    pub(crate) fn try_next(&self) -> Option<Posted> {
        self.posted.try_recv().ok()
    }
}

fn serve(listener: &TcpListener, sender: &Sender<Posted>, answer: impl Fn(usize) -> Option<u16>) {
    // Those that get no answer stay open.
    let mut unanswered = Vec::new();
    for (nth, stream) in listener.incoming().enumerate() {
        let mut stream = stream.unwrap();
        // Noted first: whoever has its answer finds it.
        if sender.send(read(&stream)).is_err() {
            return;
        }
        if let Some(status) = answer(nth) {
            // Nobody sends twice on one connection: each request is counted as one.
            let head = format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
        } else {
            unanswered.push(stream);
        }
    }
}

fn read(stream: &TcpStream) -> Posted {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let path = line.split(' ').nth(1).unwrap_or_default().to_string();
    let mut len = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                len = value.trim().parse().unwrap();
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; len];
    reader.read_exact(&mut body).unwrap();
    (path, body)
}
