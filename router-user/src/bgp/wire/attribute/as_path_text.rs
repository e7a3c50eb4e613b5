//! AS paths as people write them: `65010 65020 {1 2} (3 4)`; sets in braces, confederation
//! sequences in parentheses, confederation sets in brackets.

use std::fmt;

use super::{AsPath, AsSegment, AsSegmentKind};

impl fmt::Display for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.segments.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            segment.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for AsSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = match self.kind {
            AsSegmentKind::Sequence => ("", ""),
            AsSegmentKind::Set => ("{", "}"),
            AsSegmentKind::ConfedSequence => ("(", ")"),
            AsSegmentKind::ConfedSet => ("[", "]"),
        };
        f.write_str(open)?;
        for (index, asn) in self.asns.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            asn.fmt(f)?;
        }
        f.write_str(close)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_from_the_neighbour_to_the_origin() {
        let mut path = AsPath::sequence([65010, 65020]);
        path.push(AsSegmentKind::Set, [1, 2]);
        path.push(AsSegmentKind::ConfedSequence, [3, 4]);
        path.push(AsSegmentKind::ConfedSet, [5]);
        assert_eq!(path.to_string(), "65010 65020 {1 2} (3 4) [5]");
        assert_eq!(AsPath::default().to_string(), "");
    }
}
