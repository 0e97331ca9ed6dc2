//! What a disclosure is for, by HL7's v3-ActReason (its purposes of use).

use std::fmt;
use std::str::FromStr;

/// A purpose of use. Those that are known: of another one nobody could say that a consent does not mean it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PurposeOfUse(usize);

const CODES: [&str; 18] = [
    "TREAT",
    "ETREAT",
    "CAREMGT",
    "COC",
    "HOPERAT",
    "RECORDMGT",
    "HCOMPL",
    "HQUALIMP",
    "HLEGAL",
    "HPAYMT",
    "HRESCH",
    "CLINTRCH",
    "PUBHLTH",
    "HMARKT",
    "PATRQT",
    "FAMRQT",
    "PWATRNY",
    "SUPNWK",
];

const DISPLAYS: [&str; 18] = [
    "treatment",
    "Emergency Treatment",
    "care management",
    "coordination of care",
    "healthcare operations",
    "records management",
    "health compliance",
    "health quality improvement",
    "legal",
    "healthcare payment",
    "healthcare research",
    "clinical trial research",
    "public health",
    "healthcare marketing",
    "patient requested",
    "family requested",
    "power of attorney",
    "support network",
];

/// Text that is no purpose.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no purpose of use; there are: {}", CODES.join(" "))]
pub struct NoPurpose;

impl PurposeOfUse {
    /// The code.
    pub fn code(self) -> &'static str {
        CODES.get(self.0).copied().unwrap_or_default()
    }

    /// As people read it.
    pub fn display(self) -> &'static str {
        DISPLAYS.get(self.0).copied().unwrap_or_default()
    }

    /// All other codes.
    pub fn others(self) -> Vec<&'static str> {
        CODES.into_iter().filter(|code| *code != self.code()).collect()
    }

    /// The patient asks for it.
    pub fn is_patient_s(self) -> bool {
        self.code() == "PATRQT"
    }

    /// Treatment, payment or health care operations: a consent to these needs no end (42 CFR §2.31(a)(7)).
    pub fn is_care(self) -> bool {
        let care = [
            "TREAT",
            "ETREAT",
            "CAREMGT",
            "COC",
            "HOPERAT",
            "RECORDMGT",
            "HCOMPL",
            "HQUALIMP",
            "HPAYMT",
        ];
        care.contains(&self.code())
    }
}

impl FromStr for PurposeOfUse {
    type Err = NoPurpose;

    fn from_str(text: &str) -> Result<Self, NoPurpose> {
        CODES
            .iter()
            .position(|code| *code == text)
            .map(Self)
            .ok_or(NoPurpose)
    }
}

impl fmt::Display for PurposeOfUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_codes_that_are_known_are_purposes() {
        for code in CODES {
            let purpose: PurposeOfUse = code.parse().unwrap();
            assert_eq!((purpose.code(), purpose.others().len()), (code, CODES.len() - 1));
            assert!(!purpose.display().is_empty());
        }
        let error = "treat".parse::<PurposeOfUse>().unwrap_err();
        assert!(error.to_string().contains("TREAT"), "{error}");
    }
}
