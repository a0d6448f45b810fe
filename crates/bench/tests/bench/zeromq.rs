//! ØMQ on both sides, with libzmq's own proxy between.

use std::thread;

use crate::{delivery, measure, only};

/// An XSUB and an XPUB with `zmq_proxy` between them: (frontend, backend).
fn proxy() -> (String, String) {
    let context = zmq::Context::new();
    let (frontend, backend) = (context.socket(zmq::XSUB).unwrap(), context.socket(zmq::XPUB).unwrap());
    let bind = |socket: &zmq::Socket| {
        socket.set_sndhwm(0).unwrap();
        socket.set_rcvhwm(0).unwrap();
        socket.bind("tcp://127.0.0.1:*").unwrap();
        socket.get_last_endpoint().unwrap().unwrap()
    };
    let endpoints = (bind(&frontend), bind(&backend));
    thread::spawn(move || zmq::proxy(&frontend, &backend));
    endpoints
}

#[test]
fn a_proxy_delivers_everything_to_everybody_in_order() {
    let (frontend, backend) = proxy();
    for load in
        ["--in-flight 100 --messages 5000", "--rate 2000 --messages 400", "--publishers 3 --messages 3000"]
    {
        let line =
            format!("forwarder --frontend {frontend} --backend {backend} --subscribers 3 --warm-up 2 {load}");
        let report = measure(&line);
        let delivery = delivery(&report);
        assert_eq!(Some(delivery.published), report.settings.messages, "{line}");
        assert_eq!((delivery.delivered, delivery.lost), (delivery.published * 3, 0), "{line}");
        assert_eq!((delivery.duplicated, delivery.out_of_order, delivery.corrupted), (0, 0, 0), "{line}");
        // Topic and body.
        assert_eq!(delivery.frames, delivery.delivered * 2, "{line}");
        assert_eq!(only(&report).connect.ready, 3);
        trestle_bench::verdict(&report, true).unwrap();
    }
}
