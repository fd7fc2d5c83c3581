//! Floats in JSON, bit for bit.
//!
//! Written as the shortest text that reads back as the same number, in quotes: JSON has no infinity, and not every reader
//! of bare numbers rounds correctly. Used as `#[serde(with = "exact")]`.

use serde::{Deserialize, Deserializer, Serializer, de::Error};

pub(crate) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.to_string())
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse()
        .map_err(|_| D::Error::custom(format!("`{text}` is not a number")))
}

/// The same for values that may be absent.
pub(crate) mod option {
    use super::{Deserialize, Deserializer, Error, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        value: &Option<f64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.serialize_some(&value.to_string()),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<f64>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|t| {
            t.parse()
                .map_err(|_| D::Error::custom(format!("`{t}` is not a number")))
        })
        .transpose()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_number_comes_back() {
        #[derive(serde::Serialize, serde::Deserialize)]
        struct Two(
            #[serde(with = "super")] f64,
            #[serde(with = "super::option")] Option<f64>,
        );
        for value in [
            0.1,
            -0.0,
            1.0 / 3.0,
            f64::MIN_POSITIVE,
            5e-324,
            f64::MAX,
            f64::INFINITY,
            f64::NAN,
        ] {
            let text = serde_json::to_string(&Two(value, Some(value))).unwrap();
            let back: Two = serde_json::from_str(&text).unwrap();
            assert!(
                back.0.to_bits() == value.to_bits() || value.is_nan() && back.0.is_nan(),
                "{text}"
            );
            assert_eq!(back.1.map(f64::is_nan), Some(value.is_nan()));
        }
        assert!(serde_json::from_str::<Two>("[\"one\", null]").is_err());
    }
}
