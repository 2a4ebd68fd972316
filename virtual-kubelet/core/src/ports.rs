//! On which port the kubelet API answers for which Node.
//!
//! The Nodes themselves are the memory: what a Node showed when this process began to lead stays its port, so that nothing moves over a restart or to another
//! leader. What is no port of ours any more, by another configuration, is given anew.

use std::collections::{BTreeMap, BTreeSet};

/// Nodes with a port of their own while nothing else is asked for; a listener each is little, and too much for thousands.
pub const OWN_UP_TO: usize = 100;
/// Ports of their own lie this far after the first one at most.
const SPAN: u16 = 1_000;

/// Which Nodes have a port of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// None: all answer on the first port.
    Shared,
    /// All, as long as there are ports.
    PerNode,
    /// The first [`OWN_UP_TO`]; those that come later share the first port, and none moves.
    ByCount,
}

/// The ports of a process' Nodes. The first port belongs to the Node that is always served, and to all that share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports {
    first: u16,
    sharing: Sharing,
    held: BTreeMap<String, u16>,
    /// On which somebody else listens.
    avoided: BTreeSet<u16>,
}

impl Ports {
    pub fn new(first: u16, sharing: Sharing) -> Self {
        Self {
            first,
            sharing,
            held: BTreeMap::new(),
            avoided: BTreeSet::new(),
        }
    }

    /// What the Nodes show already. Of two that show the same port, the first by name keeps it.
    pub fn restore<'n>(&mut self, shown: impl IntoIterator<Item = (&'n str, u16)>) {
        let sorted: BTreeMap<&str, u16> = shown.into_iter().collect();
        let mut free = self.free();
        for (node, port) in sorted {
            let stays = match self.sharing {
                Sharing::Shared => port == self.first,
                Sharing::PerNode => free.remove(&port),
                Sharing::ByCount => port == self.first || free.remove(&port),
            };
            if stays {
                self.held.insert(node.to_owned(), port);
            }
        }
    }

    /// These are the Nodes beside the first now. Those that have a port keep it; those that are gone leave theirs to others.
    pub fn place<'n>(&mut self, nodes: impl IntoIterator<Item = &'n str>) {
        let nodes: BTreeSet<&str> = nodes.into_iter().collect();
        self.held.retain(|node, _| nodes.contains(node.as_str()));
        let new: Vec<&str> = nodes
            .into_iter()
            .filter(|node| !self.held.contains_key(*node))
            .collect();
        self.give(new);
    }

    /// Somebody else listens on a port that is not the first: whoever had it gets another.
    pub fn avoid(&mut self, port: u16) {
        if port == self.first {
            return;
        }
        self.avoided.insert(port);
        let moved = self.held.extract_if(.., |_, held| *held == port);
        let moved: Vec<String> = moved.map(|(node, _)| node).collect();
        self.give(moved.iter().map(String::as_str));
    }

    /// The port of each Node beside the first.
    pub fn held(&self) -> &BTreeMap<String, u16> {
        &self.held
    }

    /// The lowest free ports, as many as there may be, and the first for the others.
    fn give<'n>(&mut self, nodes: impl IntoIterator<Item = &'n str>) {
        let own = self.held.values().filter(|port| **port != self.first).count();
        let room = match self.sharing {
            Sharing::Shared => 0,
            Sharing::PerNode => usize::MAX,
            // The first Node has one too.
            Sharing::ByCount => (OWN_UP_TO - 1).saturating_sub(own),
        };
        let mut free = self.free().into_iter().take(room);
        for node in nodes {
            let port = free.next().unwrap_or(self.first);
            self.held.insert(node.to_owned(), port);
        }
    }

    fn free(&self) -> BTreeSet<u16> {
        let last = self.first.saturating_add(SPAN);
        let mut free: BTreeSet<u16> = (self.first..=last).skip(1).collect();
        for port in self.held.values().chain(&self.avoided) {
            free.remove(port);
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(sharing: Sharing, shown: &[(&str, u16)]) -> Ports {
        let mut ports = Ports::new(10_250, sharing);
        ports.restore(shown.iter().copied());
        ports
    }

    #[track_caller]
    fn check(ports: &Ports, expected: &[(&str, u16)]) {
        let held: Vec<(&str, u16)> = ports
            .held()
            .iter()
            .map(|(node, port)| (node.as_str(), *port))
            .collect();
        assert_eq!(held, expected);
    }

    #[test]
    fn a_node_keeps_the_port_that_it_shows() {
        let shown = [
            ("a", 10_253),
            ("b", 10_253),
            ("c", 10_250),
            ("d", 22),
            ("gone", 10_251),
        ];
        let nodes = ["a", "b", "c", "d", "e"];
        let placed = |sharing| {
            let mut ports = ports(sharing, &shown);
            ports.place(nodes);
            ports
        };
        let by_count = placed(Sharing::ByCount);
        check(
            &by_count,
            &[
                ("a", 10_253),
                ("b", 10_251),
                ("c", 10_250),
                ("d", 10_252),
                ("e", 10_254),
            ],
        );
        let mut again = ports(
            Sharing::ByCount,
            &by_count
                .held()
                .iter()
                .map(|(node, port)| (node.as_str(), *port))
                .collect::<Vec<_>>(),
        );
        again.place(nodes);
        assert_eq!(again, by_count, "a restart moves nothing");
        check(
            &placed(Sharing::PerNode),
            &[
                ("a", 10_253),
                ("b", 10_251),
                ("c", 10_252),
                ("d", 10_254),
                ("e", 10_255),
            ],
        );
        check(&placed(Sharing::Shared), &nodes.map(|node| (node, 10_250)));
    }

    #[test]
    fn nodes_come_and_go_and_the_others_stay() {
        let mut ports = ports(Sharing::PerNode, &[]);
        ports.place(["a", "b"]);
        ports.place(["b", "c", "d"]);
        check(&ports, &[("b", 10_252), ("c", 10_251), ("d", 10_253)]);
        ports.avoid(10_251);
        ports.avoid(10_250);
        check(&ports, &[("b", 10_252), ("c", 10_254), ("d", 10_253)]);
        ports.place(["b", "c", "d", "e"]);
        assert_eq!(ports.held()["e"], 10_255, "10251 is another's");
    }

    #[test]
    fn those_that_are_too_many_share_the_first_port() {
        let names: Vec<String> = (0..1_200).map(|number| format!("n{number:04}")).collect();
        let own = |sharing, first| {
            let mut ports = Ports::new(first, sharing);
            ports.place(names.iter().map(String::as_str));
            let own: BTreeSet<u16> = ports
                .held()
                .values()
                .copied()
                .filter(|port| *port != first)
                .collect();
            let shared = ports.held().values().filter(|port| **port == first).count();
            assert_eq!(own.len() + shared, names.len(), "no two have one port");
            own.len()
        };
        assert_eq!(own(Sharing::ByCount, 10_250), OWN_UP_TO - 1);
        assert_eq!(own(Sharing::PerNode, 10_250), 1_000);
        assert_eq!(own(Sharing::PerNode, 65_530), 5);
        assert_eq!(own(Sharing::PerNode, 65_535), 0);
        assert_eq!(own(Sharing::Shared, 10_250), 0);
    }
}
