//! Whose pages may connect, and what their browsers are told.

use std::io::Write as _;

use crate::client::{Client, JSON};
use crate::fixture::{Feed, TestEdge};
use crate::http::{Answer, Request, connect, read_more};

/// The requests are to the host `edge`.
fn edge(flags: &str) -> TestEdge {
    TestEdge::start(&format!("--source tcp://127.0.0.1:1 {flags}"))
}

fn refused(edge: &TestEdge) -> u64 {
    edge.metric("handshake_refusals_total{cause=\"origin\"}")
}

/// The head of an answer whose body has no end.
fn head(edge: &TestEdge, request: &Request) -> Answer {
    let mut stream = connect(edge.address());
    stream.write_all(&request.bytes()).unwrap();
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
        assert!(read_more(&mut stream, &mut bytes));
    }
    Answer::of_head(&bytes)
}

#[test]
fn a_page_from_elsewhere_opens_nothing() {
    let edge = edge("--allow-publish chat/ --publish-to tcp://127.0.0.1:1");
    let foreign = "https://evil.example";
    let asked = [
        Request::websocket("/ws", JSON),
        Request::websocket("/", "rust-websocket"),
        Request::websocket("/ws", "ZWS2.0/NULL,ZWS2.0"),
        Request::get("/events?topic=a"),
        Request::post("/publish?topic=chat/1", b"x"),
    ];
    for (n, request) in (1..).zip(asked) {
        let answer = request.with("Origin", foreign).to(edge.address());
        assert_eq!(answer.status, 403, "{}", answer.head);
        assert!(answer.text().contains(foreign), "{}", answer.text());
        assert_eq!(answer.header("access-control-allow-origin"), None);
        assert_eq!(refused(&edge), n);
    }
    // Its own pages do, on whatever port and in whatever case, and so does what is no browser.
    let mut client = Client::open(&edge, &Request::websocket("/ws", JSON).with("Origin", "http://EDGE:3000"));
    client = client.welcomed();
    client.subscribe(&["a"]);
    Client::json(&edge, "/ws").subscribe(&["a"]);
    assert_eq!(refused(&edge), 5);
    // The page itself is no secret.
    assert_eq!(Request::get("/client.js").with("Origin", foreign).to(edge.address()).status, 200);
}

#[test]
fn a_publication_that_is_refused_is_answered_in_json() {
    let edge = edge("--allow-publish chat/ --publish-to tcp://127.0.0.1:1");
    let post = Request::post("/publish?topic=chat/1", b"x").with("Origin", "https://evil.example");
    let answer = post.to(edge.address());
    let json: serde_json::Value = serde_json::from_str(answer.text()).unwrap();
    assert_eq!((answer.status, &json["error"]["code"]), (403, &"forbidden".into()), "{json}");
    assert_eq!(edge.metric("publications_total{outcome=\"forbidden\"}"), 1);
}

#[test]
fn where_an_origin_is_required_whoever_names_none_is_refused() {
    let edge = edge("--require-origin --allow-origin https://app.example --allow-origin *.example.org");
    let websocket = Request::websocket("/ws", JSON);
    let answer = websocket.to(edge.address());
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("Origin"), "{}", answer.text());
    assert_eq!(Request::get("/events").to(edge.address()).status, 403);
    assert_eq!(websocket.clone().with("Origin", "https://edge").to(edge.address()).status, 403);
    for origin in ["https://app.example", "http://a.b.example.org:1234"] {
        assert_eq!(websocket.clone().with("Origin", origin).to(edge.address()).status, 101, "{origin}");
    }
    // A browser sends none with what a page asks of its own host, and says so.
    let events =
        Request::get("/events").replacing("Host", "app.example").with("Sec-Fetch-Site", "same-origin");
    assert_eq!(head(&edge, &events).status, 200);
    let elsewhere =
        Request::get("/events").replacing("Host", "app.example").with("Sec-Fetch-Site", "cross-site");
    assert_eq!(elsewhere.to(edge.address()).status, 403);
    assert_eq!(Request::get("/").to(edge.address()).status, 200, "who opens the page comes from nowhere");
}

#[test]
fn a_page_that_is_allowed_may_read_what_it_fetches() {
    const PAGE: &str = "https://app.example";
    let feed = Feed::bound();
    let edge = TestEdge::on(
        &feed,
        &format!("--allow-origin {PAGE} --allow-publish chat/ --publish-to tcp://127.0.0.1:1"),
    );
    let allowed = |answer: &Answer| {
        let origin = answer.header("access-control-allow-origin").map(str::to_owned);
        (answer.header("vary").map(str::to_owned), origin)
    };
    let shared = (Some("origin".to_owned()), Some(PAGE.to_owned()));
    let events = head(&edge, &Request::get("/events?topic=a").with("Origin", PAGE));
    assert_eq!((events.status, allowed(&events)), (200, shared.clone()));
    assert_eq!(events.header("access-control-allow-credentials"), None, "no cookie carries anything");
    // What went wrong it may read as well.
    let wrong = Request::get("/events?topics=a").with("Origin", PAGE).to(edge.address());
    assert_eq!((wrong.status, allowed(&wrong)), (400, shared.clone()));
    let post = Request::post("/publish?topic=other/", b"x").with("Origin", PAGE).to(edge.address());
    assert_eq!((post.status, allowed(&post)), (403, shared.clone()));
    // Without an origin, too, a cache must not mix them up.
    let plain = Request::post("/publish?topic=other/", b"x").to(edge.address());
    assert_eq!(allowed(&plain), (Some("origin".to_owned()), None));

    let preflight = |path: &str, origin: &str| {
        let request = Request::new("OPTIONS", path).with("Origin", origin);
        request.with("Access-Control-Request-Method", "POST").to(edge.address())
    };
    let granted = preflight("/publish?topic=chat/1", PAGE);
    assert_eq!((granted.status, allowed(&granted)), (204, shared));
    assert_eq!(granted.header("access-control-allow-methods"), Some("POST"));
    let headers = granted.header("access-control-allow-headers").unwrap();
    assert!(["authorization", "content-type", "idempotency-key"].iter().all(|name| headers.contains(name)));
    assert_eq!(preflight("/events", PAGE).header("access-control-allow-methods"), Some("GET"));
    let foreign = preflight("/publish", "https://evil.example");
    assert_eq!((foreign.status, foreign.header("access-control-allow-origin")), (403, None));
    assert_eq!(Request::new("OPTIONS", "/publish").to(edge.address()).status, 405, "no preflight");
}
