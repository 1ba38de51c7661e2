//! Fuzzing of the state file parser with arbitrary text.

use std::sync::Arc;
use std::time::Duration;

use super::format::{self, Contents};
use crate::clock::{Mono, Timestamps, Unix};
use crate::watch::{Target, Thresholds};

/// Parses `text` as a state file, and as the lines of a state file with a valid end line.
pub(crate) fn file(text: &str) {
    let _ = format::read(text);
    let Ok(whole) = format::closed(text) else { return };
    let Ok(Contents { mut lines, .. }) = format::read(&whole) else { return };
    for line in lines.values() {
        let Ok(saved) = line.saved() else { continue };
        let (mono, unix) = (Mono::from_epoch(Duration::ZERO), Unix::from_epoch(Duration::ZERO));
        let (slow, now) = (
            Thresholds { warning: Duration::from_secs(1), critical: Duration::from_secs(2) },
            Timestamps { mono, unix },
        );
        let mut target = Target::new(slow, Arc::from([0.1, 1.0]), 10, unix);
        target.restore(saved);
        let _ = target.snapshot(now).saved();
    }
    let _ = format::fit(&mut lines);
    // The written file must be read back unchanged.
    let Ok(written) = format::write(&lines) else { return };
    assert_eq!(format::read(&written), Ok(Contents { lines, unreadable: 0 }), "{written}");
}
