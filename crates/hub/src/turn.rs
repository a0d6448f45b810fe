//! What one drain of the log has for each session, before the sockets are visited.

use bytes::Bytes;

const NONE: u32 = u32::MAX;

/// The frames of one turn, shared by all sessions, and for each session the list of those it gets. A session holds two
/// numbers of it, [`Staged`]; the lists live in one vector that is emptied, not freed, at the end of the turn.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    frames: Vec<Bytes>,
    links: Vec<Link>,
}

#[derive(Debug)]
struct Link {
    frame: u32,
    next: u32,
}

/// A session's list in the turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Staged {
    first: u32,
    last: u32,
}

impl Default for Staged {
    fn default() -> Self {
        Self { first: NONE, last: NONE }
    }
}

impl Staged {
    pub(crate) fn is_empty(self) -> bool {
        self.first == NONE
    }
}

fn index(n: usize) -> u32 {
    u32::try_from(n).expect("a turn has less than 2^32 deliveries")
}

impl Turn {
    /// Adds a frame that [`stage`](Self::stage) can give to any number of sessions.
    pub(crate) fn add(&mut self, frame: Bytes) -> u32 {
        self.frames.push(frame);
        index(self.frames.len() - 1)
    }

    /// Appends `frame` to a session's list.
    pub(crate) fn stage(&mut self, staged: &mut Staged, frame: u32) {
        let link = index(self.links.len());
        self.links.push(Link { frame, next: NONE });
        if staged.is_empty() {
            staged.first = link;
        } else {
            self.links[staged.last as usize].next = link;
        }
        staged.last = link;
    }

    /// A session's frames in the order they were staged.
    pub(crate) fn frames(&self, staged: Staged) -> impl Iterator<Item = &Bytes> {
        let link = |at: u32| self.links.get(at as usize);
        std::iter::successors(link(staged.first), move |here| link(here.next))
            .map(|link| &self.frames[link.frame as usize])
    }

    /// Deliveries staged so far in this turn.
    pub(crate) fn deliveries(&self) -> usize {
        self.links.len()
    }

    /// Ends the turn; no session may hold a list of it any more.
    pub(crate) fn clear(&mut self) {
        self.frames.clear();
        self.links.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_their_order_and_share_frames() {
        let mut turn = Turn::default();
        let (mut a, mut b) = (Staged::default(), Staged::default());
        let frames: Vec<_> = [b"x", b"y", b"z"].map(|f| turn.add(Bytes::from_static(f))).into();
        turn.stage(&mut a, frames[0]);
        turn.stage(&mut b, frames[0]);
        turn.stage(&mut a, frames[1]);
        turn.stage(&mut b, frames[2]);
        let list = |staged| turn.frames(staged).map(|frame| frame.to_vec()).collect::<Vec<_>>();
        assert_eq!(
            (list(a), list(b)),
            (vec![b"x".to_vec(), b"y".to_vec()], vec![b"x".to_vec(), b"z".to_vec()])
        );
        assert!(list(Staged::default()).is_empty());
        assert_eq!(turn.deliveries(), 4);
    }
}
