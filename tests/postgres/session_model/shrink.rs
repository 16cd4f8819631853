//! Shorter sequences that fail as long ones do.

/// A sequence that fails, too, from which no step can be left out.
pub fn shrink<T: Clone>(mut steps: Vec<T>, fails: impl Fn(&[T]) -> bool) -> Vec<T> {
    let mut size = steps.len() / 2;
    while size > 0 {
        let before = steps.len();
        let mut start = 0;
        while start < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(start..(start + size).min(steps.len()));
            match fails(&fewer) {
                true => steps = fewer,
                false => start += size,
            }
        }
        if size > 1 || steps.len() == before {
            size /= 2;
        }
    }
    steps
}

#[test]
fn what_matters_is_left() {
    let fails = |numbers: &[i32]| numbers.contains(&3) && numbers.contains(&70);
    assert_eq!(shrink((0..100).collect(), fails), [3, 70]);
}
