//! "Did you mean": the nearest of the names that there are.

/// The name that is fewest changes away, if that is near.
pub(crate) fn nearest<'n>(name: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let most = (name.chars().count() / 3).clamp(1, 3);
    let near = names.into_iter().map(|other| (distance(name, other), other)).min();
    near.filter(|(distance, _)| *distance <= most).map(|(_, other)| other)
}

/// A sentence for a hint; what there is to know if nothing is near.
pub(crate) fn sentence<'n>(name: &str, names: impl IntoIterator<Item = &'n str>, otherwise: &str) -> String {
    nearest(name, names).map_or_else(|| otherwise.to_string(), |near| format!("did you mean {near:?}?"))
}

/// Letters to be inserted, removed, replaced or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) =
        (a.to_lowercase().chars().collect(), b.to_lowercase().chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = match (i, j) {
                (0, _) => j,
                (_, 0) => i,
                _ => {
                    let same = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                    let one = 1 + rows[i - 1][j].min(rows[i][j - 1]);
                    let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                    let swap = if swapped { rows[i - 2][j - 2] + 1 } else { usize::MAX };
                    same.min(one).min(swap)
                }
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_is_near_and_another_word_is_not() {
        let names = ["orders", "invoices", "payments"];
        assert_eq!(nearest("ordres", names), Some("orders"));
        assert_eq!(nearest("order", names), Some("orders"));
        assert_eq!(nearest("Invoices", names), Some("invoices"));
        assert_eq!(nearest("shipments", names), None);
        assert_eq!(nearest("x", names), None);
        assert_eq!(nearest("orders", []), None);
    }
}
