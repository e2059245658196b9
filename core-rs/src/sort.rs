//! The one sort of the core. The compiler makes a copy of the sort for each type that is sorted,
//! and a copy takes some 10 KB of the module. So everything is sorted as pairs of this type.

/// Sorts pairs of a name and a number by the bytes of the names. Pairs of the same name are sorted
/// by their numbers.
#[inline(never)]
pub(crate) fn sort_names(pairs: &mut [(&str, u32)]) {
    pairs.sort_unstable_by(|a, b| a.0.cmp(b.0).then(a.1.cmp(&b.1)));
}

/// Sorts names, each with its index. If a name comes twice, its last index counts.
pub(crate) fn sorted_indexes<'a>(names: impl Iterator<Item = &'a str>) -> Vec<(&'a str, u32)> {
    let mut pairs: Vec<(&str, u32)> = names.zip(0..).collect();
    sort_names(&mut pairs);
    pairs.dedup_by(|next, last| {
        let same = next.0 == last.0;
        if same {
            *last = *next;
        }
        same
    });
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_by_their_bytes_and_equal_ones_by_their_numbers() {
        let mut pairs = [("b", 0), ("é", 1), ("", 2), ("b", 1), ("a", 9), ("B", 3), ("b", 0), ("ba", 0)];
        sort_names(&mut pairs);
        assert_eq!(pairs, [("", 2), ("B", 3), ("a", 9), ("b", 0), ("b", 0), ("b", 1), ("ba", 0), ("é", 1)]);
    }

    #[test]
    fn the_last_of_equal_names_counts() {
        let pairs = sorted_indexes(["x", "a", "x", "b", "x", "a"].into_iter());
        assert_eq!(pairs, [("a", 5), ("b", 3), ("x", 4)]);
    }
}
