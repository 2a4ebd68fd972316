//! How often each fault, law, rare path and exemption was met: what no seed meets, no seed proves.

use std::cell::Cell;

/// What kind of thing a [`Path`] is, in the order they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What the world does to the machines.
    Fault,
    /// A judge had something to judge.
    Law,
    /// Something of the machines that most seeds never come to.
    Rare,
    /// A judge let something pass: see `exemptions`.
    Exemption,
}

macro_rules! paths {
    ($($kind:ident { $($path:ident $words:literal,)+ })+) => {
        /// Everything that is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Path { $($($path,)+)+ }

        impl Path {
            /// By kind, in the order of the declaration.
            pub const ALL: &'static [Self] = &[$($(Self::$path,)+)+];

            pub fn kind(self) -> Kind {
                match self { $($(Self::$path)|+ => Kind::$kind,)+ }
            }

            pub fn words(self) -> &'static str {
                match self { $($(Self::$path => $words,)+)+ }
            }
        }
    };
}

paths! {
    Fault {
        FrameLost "frame lost",
        FrameDoubled "frame doubled",
        FrameLate "frame late, out of order",
        FrameReplayed "old frame to its own device",
        FrameMisrouted "old frame to another device",
        LinkLost "connection lost",
        Partition "network of a device gone",
        AgentCrash "agent dies",
        AgentCrashInStep "agent dies among its effects",
        AgentCommitLost "agent dies before a commit",
        Reboot "device loses power",
        AddressChanged "device has another address",
        HubCrash "hub dies",
        HubCrashInStep "hub dies among its effects",
        HubCommitLost "hub dies before a commit",
        HubRestored "hub restored from a backup",
        BridgeCrash "bridge dies",
        BridgeCrashInStep "bridge dies among its effects",
        RequestLost "call lost on its way",
        RequestUnanswered "call carried out, answer lost",
        HubAway "call of a hub that is away",
        FetchFails "blob cannot be fetched",
        ListFails "list of pods fails",
        ListOfOtherCluster "list of another cluster",
        ListOlder "empty list under an older number",
        ListEmpty "empty list under the newest number",
        ListOfThePast "list as it was once",
        WatchBreaks "watch breaks",
        HubStreamBreaks "stream of the hub breaks",
        FinishFails "last delete lost, or its answer",
        RuntimeAway "runtime out of reach",
        StepFails "step fails",
        StepFailsLate "step fails, though done",
        StepOfTheDead "step of a dead agent takes effect",
        PullFails "image cannot be pulled",
        HintLost "hint of the runtime lost",
        ContainerDies "container dies by itself",
        ContainerSick "container answers no probe any more",
        SandboxDies "sandbox dies by itself",
        DeviceClockJumps "clock of a device jumps",
        HubClockJumps "clock of the hub jumps",
    }
    Law {
        StartJudged "5: one instance",
        EndJudged "1, 2, 6: a running container is ended",
        OrderJudged "a container starts after those before it",
        TurnJudged "a sidecar is stopped after the others",
        AgentSetJudged "2, 4, 9: a set on a device's disk",
        HubSetJudged "4: a set on the hub's disk",
        IncarnationJudged "4: an incarnation on the hub's disk",
        HealthOnHubJudged "3: health on the hub's disk",
        PersistedJudged "4: persisted, as a device says",
        HealthyJudged "3: healthy, as a device says",
        AcknowledgedJudged "4: acknowledged, as the hub says",
        StatementJudged "4, 9: a statement",
        ReadyJudged "3: ready, as the bridge reads",
        VolumesJudged "a container starts with its volumes",
        FilesJudged "files hold the newest objects",
        FinishJudged "an end that someone wanted",
        TerminalJudged "a terminal phase stays",
        OrphanJudged "1: an orphan still runs",
        QuietJudged "quiet in the end",
    }
    Rare {
        StatementSame "same",
        StatementDelta "delta",
        StatementSnapshot "snapshot in one part",
        StatementParts "snapshot in parts",
        BaseMissing "delta on a base that is missing",
        Stale "stale generation",
        Quarantined "quarantine on a device",
        BlobFetched "blob fetched",
        ObjectEdited "object edited",
        ObjectLate "pod created before its secret",
        KeysBrought "keys brought by the sealer",
        MountWaits "volumes wait for an object or its key",
        ImageChanged "image of a running pod changed",
        RolledOut "rolled out by surge",
        TakenOver "rolled out by replacing",
        SuccessorPut "put that replaces another pod",
        PutWaits "put waits for a predecessor",
        Released "release",
        PredecessorEnded "predecessor ended by its successor",
        OrphanEnded "orphan ended by its successor",
        DeletedWithGrace "deleted, with grace",
        ForceDeleted "deleted by force",
        GivenUp "given up by the taint manager",
        Collected "collected without a node",
        NodeDeleted "node deleted",
        FinalizerRemoved "finalizer removed",
        BrakeHeld "brake held removals",
        BrakeReleased "person let removals pass",
        Retagged "device moved to other pods",
        PodEnded "pod in a terminal phase",
        StoppedHard "stop that ran out of grace",
        Adopted "workload adopted by the next agent",
        Reconnected "device reconnects by itself",
    }
    Exemption {
        WaitsForPerson "in quarantine: waits for a person",
        LacksObjects "orphan whose object came too late",
        LostItsPlace "orphan whose place was taken",
        ReleasedBeforeRestore "released before the hub was restored",
        KnowsNotOfRestore "hub that does not know it is restored",
        OnceOutOfTarget "was once out of the pod's target",
    }
}

/// Counts of one seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage(Vec<Cell<u64>>);

impl Default for Coverage {
    fn default() -> Self {
        Self(vec![Cell::new(0); Path::ALL.len()])
    }
}

impl Coverage {
    /// Judges only read the world, so counting does not change it.
    pub(crate) fn met(&self, path: Path) {
        let count = &self.0[path as usize];
        count.set(count.get() + 1);
    }

    fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter().zip(&other.0) {
            mine.set(mine.get() + theirs.get());
        }
    }

    pub fn times(&self, path: Path) -> u64 {
        self.0[path as usize].get()
    }
}

/// Counts of many seeds.
#[derive(Debug, Default)]
pub struct Tally {
    times: Coverage,
    seeds: Coverage,
}

impl Tally {
    pub fn add(&mut self, one: &Coverage) {
        self.times.add(one);
        for path in Path::ALL.iter().filter(|path| one.times(**path) > 0) {
            self.seeds.met(*path);
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.times.add(&other.times);
        self.seeds.add(&other.seeds);
    }

    pub fn times(&self, path: Path) -> u64 {
        self.times.times(path)
    }

    /// In how many seeds.
    pub fn seeds(&self, path: Path) -> u64 {
        self.seeds.times(path)
    }
}
