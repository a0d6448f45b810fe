//! What one drain of the log has for each session, before the sockets are visited.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use trestle_recorder::{Message, Segment};

const NONE: u32 = u32::MAX;

/// Bytes of a list that are copied into one piece for those who share it. Beyond it the copy costs more than the kernel's
/// walk through the frames.
const JOINED_BYTES_MAX: usize = 256 << 10;

/// A list of frames: the root of its [`Kind`] when it is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct List(u32);

/// What lists are made of: one kind for each encoding, so that sessions that hear the same share a list.
pub(crate) type Kind = u8;

/// A frame that was added to the turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameId(u32);

/// The frames of one turn, shared by all sessions, and the lists of them.
///
/// Lists are a tree: each node is the list of its parent and one frame more. Sessions that get the same frames are at the
/// same node, so that a broadcast costs a step to the same child for each of them, and what they are given can be one
/// contiguous piece, copied once for all.
#[derive(Debug)]
pub(crate) struct Turn {
    segments: Vec<Arc<Segment>>,
    frames: Vec<Frame>,
    nodes: Vec<Node>,
    joined: Vec<Bytes>,
    kinds: usize,
}

#[derive(Debug)]
struct Frame {
    bytes: Bytes,
    segment: u32,
    index: u32,
}

/// Of a size that is found by a shift.
#[derive(Debug, Clone, Copy)]
#[repr(align(32))]
struct Node {
    parent: u32,
    frame: u32,
    len: u32,
    /// The child that was made last. Messages are staged one by one, so that it is the child of the current one.
    child: u32,
    child_frame: u32,
    joined: Joined,
}

#[derive(Debug, Clone, Copy)]
enum Joined {
    /// Nobody was given this list.
    Unasked,
    /// One session was, frame by frame.
    Asked,
    /// It exists in one piece.
    At(u32),
}

const EMPTY: Node =
    Node { parent: NONE, frame: NONE, len: 0, child: NONE, child_frame: NONE, joined: Joined::Unasked };

/// What a session is given, in as few pieces as pays.
#[expect(clippy::large_enum_variant, reason = "it lives for a write; a box would be an allocation for each")]
pub(crate) enum Pieces<'a> {
    One(&'a Bytes),
    Each(SmallVec<[FrameId; 64]>),
}

fn index(n: usize) -> u32 {
    u32::try_from(n).expect("a turn has less than 2^32 frames and lists")
}

impl Turn {
    /// An empty turn for lists of `kinds` kinds.
    pub(crate) fn new(kinds: usize) -> Self {
        Self { segments: vec![], frames: vec![], nodes: vec![EMPTY; kinds], joined: vec![], kinds }
    }

    /// The empty list of a kind.
    pub(crate) fn empty(kind: Kind) -> List {
        List(u32::from(kind))
    }

    pub(crate) fn is_empty(&self, list: List) -> bool {
        (list.0 as usize) < self.kinds
    }

    /// The segment that the following frames are of.
    pub(crate) fn begin(&mut self, segment: &Arc<Segment>) {
        self.segments.push(Arc::clone(segment));
    }

    /// Adds the encoding of a message of the segment begun last.
    pub(crate) fn add(&mut self, message: usize, bytes: Bytes) -> FrameId {
        let segment = index(self.segments.len() - 1);
        self.frames.push(Frame { bytes, segment, index: index(message) });
        FrameId(index(self.frames.len() - 1))
    }

    /// Appends `frame` to `list`, once however often it is asked in a row.
    #[inline]
    pub(crate) fn stage(&mut self, list: &mut List, frame: FrameId) {
        let node = &self.nodes[list.0 as usize];
        if node.child_frame == frame.0 {
            list.0 = node.child;
        } else if node.frame != frame.0 {
            list.0 = self.add_child(*list, frame);
        }
    }

    fn add_child(&mut self, list: List, frame: FrameId) -> u32 {
        let child = index(self.nodes.len());
        let node = &mut self.nodes[list.0 as usize];
        (node.child, node.child_frame) = (child, frame.0);
        let len = node.len + 1;
        self.nodes.push(Node { parent: list.0, frame: frame.0, len, ..EMPTY });
        child
    }

    /// What is in `list`, in one piece where it is short or several sessions want it.
    pub(crate) fn pieces(&mut self, list: List) -> Pieces<'_> {
        let node = self.nodes[list.0 as usize];
        if self.is_empty(List(node.parent)) {
            return Pieces::One(&self.frames[node.frame as usize].bytes);
        }
        if let Joined::At(at) = node.joined {
            return Pieces::One(&self.joined[at as usize]);
        }
        let frames = self.frames(list);
        if let Joined::Unasked = node.joined {
            self.nodes[list.0 as usize].joined = Joined::Asked;
            return Pieces::Each(frames);
        }
        let len = frames.iter().map(|frame| self.bytes(*frame).len()).sum();
        if len > JOINED_BYTES_MAX {
            return Pieces::Each(frames);
        }
        let mut joined = BytesMut::with_capacity(len);
        frames.iter().for_each(|frame| joined.extend_from_slice(self.bytes(*frame)));
        let at = self.joined.len();
        self.joined.push(joined.freeze());
        self.nodes[list.0 as usize].joined = Joined::At(index(at));
        Pieces::One(&self.joined[at])
    }

    /// The frames of `list` in the order they were staged.
    pub(crate) fn frames(&self, list: List) -> SmallVec<[FrameId; 64]> {
        let mut frames = SmallVec::new();
        let mut at = list.0;
        while !self.is_empty(List(at)) {
            let node = &self.nodes[at as usize];
            frames.push(FrameId(node.frame));
            at = node.parent;
        }
        frames.reverse();
        frames
    }

    /// How many frames `list` has.
    pub(crate) fn len(&self, list: List) -> u64 {
        u64::from(self.nodes[list.0 as usize].len)
    }

    pub(crate) fn bytes(&self, frame: FrameId) -> &Bytes {
        &self.frames[frame.0 as usize].bytes
    }

    /// The message that `frame` shows.
    pub(crate) fn message(&self, frame: FrameId) -> Message<'_> {
        let frame = &self.frames[frame.0 as usize];
        self.segments[frame.segment as usize].message(frame.index as usize)
    }

    /// Lists made so far in this turn, and frames: what bounds its memory.
    pub(crate) fn weight(&self) -> usize {
        self.nodes.len() + self.frames.len()
    }

    /// Ends the turn; no session may hold a list of it any more.
    pub(crate) fn clear(&mut self) {
        self.segments.clear();
        self.frames.clear();
        self.joined.clear();
        self.nodes.truncate(self.kinds);
        self.nodes.fill(EMPTY);
    }
}

#[cfg(test)]
mod tests {
    use trestle_messages::v1::Stamp;
    use trestle_recorder::{Log, SegmentBuilder};

    use super::*;

    fn turn() -> Turn {
        let log = Log::new(1_000);
        let mut batch = SegmentBuilder::default();
        batch.push([&b"topic"[..]], Stamp::default());
        log.append(&mut batch);
        let mut segments = Vec::new();
        log.read_from(0, 1, &mut segments);
        let mut turn = Turn::new(2);
        turn.begin(&segments[0]);
        turn
    }

    fn text(turn: &mut Turn, list: List) -> String {
        let bytes = match turn.pieces(list) {
            Pieces::One(bytes) => bytes.to_vec(),
            Pieces::Each(frames) => frames.iter().flat_map(|frame| turn.bytes(*frame).to_vec()).collect(),
        };
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn lists_keep_their_order_and_share_frames() {
        let mut turn = turn();
        let [x, y, z] = [b"x", b"y", b"z"].map(|frame| turn.add(0, Bytes::from_static(frame)));
        let mut lists = [Turn::empty(0), Turn::empty(0), Turn::empty(1)];
        for (list, frame) in [(0, x), (1, x), (2, x), (0, y), (2, y), (1, z), (2, z)] {
            turn.stage(&mut lists[list], frame);
        }
        let [a, b, c] = lists;
        let lists = [a, b, c].map(|list| text(&mut turn, list));
        assert_eq!(lists, ["xy", "xz", "xyz"]);
        assert_eq!([a, b, c].map(|list| turn.len(list)), [2, 2, 3]);
        assert!(turn.is_empty(Turn::empty(1)));
    }

    #[test]
    fn a_frame_that_is_staged_again_is_there_once() {
        let mut turn = turn();
        let [x, y] = [b"x", b"y"].map(|frame| turn.add(0, Bytes::from_static(frame)));
        let mut list = Turn::empty(0);
        for frame in [x, x, y, y, y] {
            turn.stage(&mut list, frame);
        }
        assert_eq!(text(&mut turn, list), "xy");
    }

    #[test]
    fn whoever_hears_the_same_is_given_the_same_piece() {
        let mut turn = turn();
        let frames = [b"x", b"y"].map(|frame| turn.add(0, Bytes::from_static(frame)));
        let mut lists = [Turn::empty(0); 3];
        for frame in frames {
            lists.iter_mut().for_each(|list| turn.stage(list, frame));
        }
        assert!(lists.iter().all(|list| *list == lists[0]));
        assert!(matches!(turn.pieces(lists[0]), Pieces::Each(_)), "one reader alone is not worth a copy");
        let pointers = [1, 2].map(|reader: usize| match turn.pieces(lists[reader]) {
            Pieces::One(bytes) => bytes.as_ptr(),
            Pieces::Each(_) => panic!("it is shared"),
        });
        assert_eq!(pointers[0], pointers[1]);
        turn.clear();
        assert_eq!(turn.weight(), 2);
    }
}
