//! Finds the name that somebody may have meant by a name that does not exist.

/// Returns the one of `names` that is fewest edits away from `name`. It allows one edit for each
/// three characters of `name`, and at least one; None if no name is that near. An edit adds,
/// removes or changes a character, or swaps two that are side by side. Upper and lower case count
/// as equal.
pub(crate) fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    // Names of fields are short, so a long name is near none of them. This also bounds the time.
    const LONGEST: usize = 64;
    if name.len() > LONGEST {
        return None;
    }
    let wanted = lower(name);
    let most = (wanted.len() / 3).max(1);
    let distances = names.map(|n| (edits(&wanted, &lower(n)), n));
    distances.filter(|(d, _)| *d <= most && *d < wanted.len()).min_by_key(|(d, _)| *d).map(|(_, n)| n)
}

fn lower(s: &str) -> Vec<char> {
    s.chars().flat_map(char::to_lowercase).collect()
}

/// Returns the Damerau-Levenshtein distance in its restricted form (optimal string alignment).
fn edits(a: &[char], b: &[char]) -> usize {
    let mut rows = [vec![0; b.len() + 1], (0..=b.len()).collect(), vec![0; b.len() + 1]];
    for i in 1..=a.len() {
        let [before, last, row] = &mut rows;
        row[0] = i;
        for j in 1..=b.len() {
            let change = last[j - 1] + (a[i - 1] != b[j - 1]) as usize;
            row[j] = change.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        rows.rotate_left(1);
    }
    rows[1][b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn names_are_found_by_their_edits() {
        let names = ["count", "seed", "position", "placementId", "x", "i", "j"];
        for (name, want) in [
            ("cuont", Some("count")),
            ("Count", Some("count")),
            ("cout", Some("count")),
            ("counts", Some("count")),
            ("ct", None),
            ("sed", Some("seed")),
            ("pos", None),
            ("placementid", Some("placementId")),
            ("placmentId", Some("placementId")),
            ("placement_id", Some("placementId")),
            ("X", Some("x")),
            ("nothing", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, names.into_iter()), want, "{name:?}");
        }
        assert_eq!(nearest(&"count".repeat(1000), names.into_iter()), None);
    }
}
