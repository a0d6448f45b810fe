//! Typed events: found in a message, and shown as JSON.

use prost::Message as _;
use trestle_messages::EVENT_MARKER;
use trestle_messages::v1::progress::State;
use trestle_messages::v1::{Event, Progress, Status};
use trestle_recorder::Message;

use super::syntax::{Object, float, safe_integer, string};

/// The event of a message `[topic]["trestle.v1.Event"][protobuf Event]`; `None` if it has another layout or does not
/// decode, and is then shown as the plain frames that it has.
pub(super) fn event(message: &Message<'_>) -> Option<Event> {
    let mut body = message.body();
    if body.len() != 2 || !message.has_topic() || body.next() != Some(EVENT_MARKER) {
        return None;
    }
    Event::decode(body.next()?).ok()
}

/// Writes `{"job","done","total","unit","state"}`.
///
/// A state that is missing, or that a later release added, is shown as `running`: whoever counts steps is at work.
pub(super) fn progress(progress: &Progress, out: &mut Vec<u8>) {
    let state = match progress.state() {
        State::Started => "started",
        State::Unspecified | State::Running => "running",
        State::Done => "done",
        State::Failed => "failed",
    };
    let mut object = Object::begin(out);
    string(&progress.job, object.key("job"));
    safe_integer(progress.done, object.key("done"));
    safe_integer(progress.total, object.key("total"));
    string(&progress.unit, object.key("unit"));
    string(state, object.key("state"));
    object.end();
}

/// Writes `{"gauges":{name:number}}`, sorted by name so that equal events give equal bytes. A gauge that is no finite
/// number is `null`.
pub(super) fn status(status: &Status, out: &mut Vec<u8>) {
    let mut gauges: Vec<_> = status.gauges.iter().collect();
    gauges.sort_unstable_by_key(|(name, _)| *name);
    let mut object = Object::begin(out);
    let mut named = Object::begin(object.key("gauges"));
    for (name, value) in gauges {
        float(*value, named.any_key(name));
    }
    named.end();
    object.end();
}
