//! Provisions, against a second statement of what they mean.

use proptest::prelude::*;

use super::*;

/// A rule of which only this matters: does it permit, does it apply (`None`: perhaps), and its exceptions.
#[derive(Debug, Clone)]
struct Rule {
    permits: bool,
    applies: Option<bool>,
    exceptions: Vec<Rule>,
    /// Which of the elements says so.
    by: usize,
}

fn rules() -> impl Strategy<Value = Rule> {
    let rule = |exceptions: BoxedStrategy<Vec<Rule>>| {
        let applies = prop_oneof![
            4 => Just(Some(true)),
            1 => Just(Some(false)),
            1 => Just(None),
        ];
        (any::<bool>(), applies, exceptions, 0usize..3).prop_map(|(permits, applies, exceptions, by)| Rule {
            permits,
            applies,
            exceptions,
            by,
        })
    };
    rule(Just(Vec::new()).boxed()).prop_recursive(4, 24, 3, move |inner| {
        rule(prop::collection::vec(inner, 0..4).boxed())
    })
}

impl Rule {
    fn json(&self) -> Value {
        let mut rule = json!({ "type": if self.permits { "permit" } else { "deny" } });
        let (name, value) = match (self.applies, self.by) {
            (Some(true), 0) => ("action", action("collect")),
            (Some(true), 1) => ("purpose", purpose("TREAT")),
            (Some(true), _) => ("period", json!({ "start": "2026-03-05", "end": "2026-03-05" })),
            (Some(false), 0) => ("action", action("disclose")),
            (Some(false), 1) => ("purpose", purpose("HPAYMT")),
            (Some(false), _) => ("period", json!({ "start": "2026-03-06" })),
            (None, 0) => ("action", action("unheard-of")),
            (None, 1) => ("purpose", purpose("unheard-of")),
            (None, _) => ("securityLabel", json!([{ "code": "R" }])),
        };
        rule[name] = value;
        if !self.exceptions.is_empty() {
            rule["provision"] = self.exceptions.iter().map(Self::json).collect();
        }
        rule
    }

    /// What it comes to where those that perhaps apply do as the bits of `chance` say, in order.
    fn outcome(&self, chance: &mut u32) -> Option<bool> {
        let applies = self.applies.unwrap_or_else(|| {
            let bit = *chance & 1 == 1;
            *chance >>= 1;
            bit
        });
        // All of them, so that each has its own bit.
        let exceptions: Vec<_> = self.exceptions.iter().map(|rule| rule.outcome(chance)).collect();
        if !applies {
            None
        } else if exceptions.contains(&Some(false)) {
            Some(false)
        } else if exceptions.contains(&Some(true)) {
            Some(true)
        } else {
            Some(self.permits)
        }
    }

    fn chances(&self) -> u32 {
        let below: u32 = self.exceptions.iter().map(Self::chances).sum();
        below + u32::from(self.applies.is_none())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Permitted only where it is, whatever the things mean that are not known here; and always where all is known.
    #[test]
    fn a_permit_holds_under_every_reading(rule in rules()) {
        let permitted = judge(&provision(rule.json())).is_ok();
        let chances = rule.chances();
        prop_assume!(chances <= 10);
        let under_all = (0..1u32 << chances).all(|mut chance| rule.outcome(&mut chance) == Some(true));
        prop_assert!(!permitted || under_all);
        if chances == 0 {
            prop_assert_eq!(permitted, under_all);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Consent::read(&bytes, 0).is_err());
    }

    #[test]
    fn the_next_change_is_the_next_change(rule in rules(), steps in prop::collection::vec(0u64..3 * DAY, 1..8)) {
        let Ok(consent) = read(&provision(rule.json())) else { return Ok(()) };
        for step in steps {
            let at = NOW - DAY + step;
            if let Some(next) = consent.next_change(at) {
                prop_assert!(next > at);
                prop_assert_eq!(consent.judge(at), consent.judge(next - 1));
            } else {
                prop_assert_eq!(consent.judge(at), consent.judge(at + 1000 * DAY));
            }
        }
    }
}
