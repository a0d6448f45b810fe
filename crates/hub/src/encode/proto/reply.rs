//! What the server says of its own in `trestle.v1.proto`.

use prost::Message as _;
use trestle_messages::Position;
use trestle_messages::v1;
use trestle_messages::v1::server_message as wire;

use super::super::reply::{
    GoodbyeReason, LostCause, LostCount, Outcome, Recorded, Recovery, Reply, ServerMessage, Subscribed,
    Topics, Unrecovered,
};
use crate::ErrorCode;

/// The message as a `ServerMessage`, encoded.
pub(in crate::encode) fn server_message(message: &ServerMessage<'_>) -> Vec<u8> {
    let message = match message {
        ServerMessage::Welcome(welcome) => wire::Message::Welcome(wire::Welcome {
            session: welcome.session.to_owned(),
            position: text(welcome.position),
            heartbeat_ms: welcome.heartbeat_ms,
            expires_at: welcome.expires_at,
            stale: only_true(welcome.stale),
        }),
        ServerMessage::Reply(said) => wire::Message::Reply(reply(said)),
        ServerMessage::CaughtUp(caught_up) => wire::Message::CaughtUp(wire::CaughtUp {
            id: caught_up.id,
            position: text(caught_up.position),
            replayed: caught_up.replayed,
        }),
        ServerMessage::Heartbeat(heartbeat) => wire::Message::Heartbeat(wire::Heartbeat {
            position: text(heartbeat.position),
            stale: only_true(heartbeat.stale),
        }),
        ServerMessage::Lost(lost) => wire::Message::Lost(wire::Lost {
            topics: topics(&lost.topics),
            from: text(lost.from),
            position: text(lost.position),
            cause: cause(lost.cause).into(),
            how_many: lost.count.map(|count| match count {
                LostCount::Count(n) => wire::lost::HowMany::Count(n),
                LostCount::AtMost(n) => wire::lost::HowMany::AtMost(n),
            }),
        }),
        ServerMessage::Goodbye(goodbye) => wire::Message::Goodbye(wire::Goodbye {
            reason: goodbye_reason(goodbye.reason).into(),
            reconnect_after_ms: goodbye.reconnect_after_ms,
        }),
    };
    v1::ServerMessage { message: Some(message) }.encode_to_vec()
}

fn reply(reply: &Reply<'_>) -> wire::Reply {
    let outcome = match &reply.outcome {
        Outcome::Subscribed(done) => wire::reply::Outcome::Subscribed(subscribed(done)),
        Outcome::Unsubscribed(done) => {
            wire::reply::Outcome::Unsubscribed(wire::Unsubscribed { topics: topics(&done.topics) })
        }
        Outcome::Published(done) => {
            wire::reply::Outcome::Published(wire::Published { position: text(done.position) })
        }
        Outcome::Authenticated(done) => {
            let ended = done.ended.iter();
            let ended = ended.map(|ended| wire::Ended { topics: topics(&ended.topics), exact: ended.exact });
            let (expires_at, ended) = (done.expires_at, ended.collect());
            wire::reply::Outcome::Authenticated(wire::Authenticated { expires_at, ended })
        }
        Outcome::Error { code, reason, retry } => wire::reply::Outcome::Error(wire::Error {
            code: error_code(*code).into(),
            reason: (*reason).to_owned(),
            retry: *retry,
        }),
    };
    wire::Reply { id: reply.id, outcome: Some(outcome) }
}

fn subscribed(subscribed: &Subscribed<'_>) -> wire::Subscribed {
    let (recovered, reason) = match subscribed.recovery {
        None => (None, None),
        Some(Recovery::Recovered) => (Some(true), None),
        Some(Recovery::Failed(reason)) => (Some(false), Some(unrecovered(reason).into())),
    };
    wire::Subscribed {
        topics: topics(&subscribed.topics),
        position: text(subscribed.position),
        recorded: match subscribed.recorded {
            Recorded::All => wire::Recorded::All,
            Recorded::Some => wire::Recorded::Some,
            Recorded::None => wire::Recorded::None,
        }
        .into(),
        recovered,
        reason,
    }
}

fn text(position: Option<Position>) -> Option<String> {
    position.map(|position| position.to_string())
}

fn only_true(value: bool) -> Option<bool> {
    value.then_some(true)
}

fn topics(topics: &Topics<'_>) -> Vec<bytes::Bytes> {
    topics.0.iter().map(|topic| bytes::Bytes::copy_from_slice(topic)).collect()
}

fn unrecovered(reason: Unrecovered) -> wire::Unrecovered {
    match reason {
        Unrecovered::HistoryTruncated => wire::Unrecovered::HistoryTruncated,
        Unrecovered::EpochChanged => wire::Unrecovered::EpochChanged,
        Unrecovered::NotRecorded => wire::Unrecovered::NotRecorded,
        Unrecovered::UnknownPosition => wire::Unrecovered::UnknownPosition,
    }
}

fn cause(cause: LostCause) -> wire::LostCause {
    match cause {
        LostCause::SlowConsumer => wire::LostCause::SlowConsumer,
        LostCause::LinkHole => wire::LostCause::LinkHole,
        LostCause::EpochChanged => wire::LostCause::EpochChanged,
        LostCause::ShardOverrun => wire::LostCause::ShardOverrun,
    }
}

fn goodbye_reason(reason: GoodbyeReason) -> wire::GoodbyeReason {
    match reason {
        GoodbyeReason::Restarting => wire::GoodbyeReason::Restarting,
        GoodbyeReason::Draining => wire::GoodbyeReason::Draining,
        GoodbyeReason::TokenExpired => wire::GoodbyeReason::TokenExpired,
        GoodbyeReason::Disconnected => wire::GoodbyeReason::Disconnected,
    }
}

fn error_code(code: ErrorCode) -> wire::ErrorCode {
    match code {
        ErrorCode::BadRequest => wire::ErrorCode::BadRequest,
        ErrorCode::UnknownCommand => wire::ErrorCode::UnknownCommand,
        ErrorCode::UnknownField => wire::ErrorCode::UnknownField,
        ErrorCode::InvalidTopic => wire::ErrorCode::InvalidTopic,
        ErrorCode::TooManySubscriptions => wire::ErrorCode::TooManySubscriptions,
        ErrorCode::TooLarge => wire::ErrorCode::TooLarge,
        ErrorCode::RateLimited => wire::ErrorCode::RateLimited,
        ErrorCode::Unauthorized => wire::ErrorCode::Unauthorized,
        ErrorCode::TokenExpired => wire::ErrorCode::TokenExpired,
        ErrorCode::Forbidden => wire::ErrorCode::Forbidden,
        ErrorCode::Unavailable => wire::ErrorCode::Unavailable,
        ErrorCode::Unconfirmed => wire::ErrorCode::Unconfirmed,
        ErrorCode::Internal => wire::ErrorCode::Internal,
    }
}
