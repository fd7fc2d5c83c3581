//! The messages of an event file, as far as they are written: field numbers are TensorFlow's.

use prost::Message;

/// `tensorflow.Event`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Event {
    /// Seconds since 1970.
    #[prost(double, optional, tag = "1")]
    pub(super) wall_time: Option<f64>,
    #[prost(int64, optional, tag = "2")]
    pub(super) step: Option<i64>,
    /// Of the `what` that every event has one of.
    #[prost(string, optional, tag = "3")]
    pub(super) file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    pub(super) summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    pub(super) session_log: Option<SessionLog>,
}

/// `tensorflow.Summary`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Summary {
    #[prost(message, repeated, tag = "1")]
    pub(super) value: Vec<Value>,
}

/// `tensorflow.Summary.Value`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Value {
    #[prost(string, optional, tag = "1")]
    pub(super) tag: Option<String>,
    #[prost(float, optional, tag = "2")]
    pub(super) simple_value: Option<f32>,
    #[prost(message, optional, tag = "8")]
    pub(super) tensor: Option<Tensor>,
    #[prost(message, optional, tag = "9")]
    pub(super) metadata: Option<Metadata>,
}

/// `tensorflow.TensorProto` of texts.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Tensor {
    #[prost(int32, optional, tag = "1")]
    pub(super) dtype: Option<i32>,
    #[prost(message, optional, tag = "2")]
    pub(super) shape: Option<Shape>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub(super) string_val: Vec<Vec<u8>>,
}

/// `tensorflow.TensorShapeProto`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Shape {
    #[prost(message, repeated, tag = "2")]
    pub(super) dim: Vec<Dim>,
}

/// `tensorflow.TensorShapeProto.Dim`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Dim {
    #[prost(int64, optional, tag = "1")]
    pub(super) size: Option<i64>,
}

/// `tensorflow.SummaryMetadata`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Metadata {
    #[prost(message, optional, tag = "1")]
    pub(super) plugin_data: Option<PluginData>,
}

/// `tensorflow.SummaryMetadata.PluginData`
#[derive(Clone, PartialEq, Message)]
pub(super) struct PluginData {
    #[prost(string, optional, tag = "1")]
    pub(super) plugin_name: Option<String>,
}

/// `tensorflow.SessionLog`
#[derive(Clone, PartialEq, Message)]
pub(super) struct SessionLog {
    #[prost(int32, optional, tag = "1")]
    pub(super) status: Option<i32>,
}

/// `SessionStatus.START`
const START: i32 = 1;
/// `DataType.DT_STRING`
const DT_STRING: i32 = 7;

impl Event {
    /// The first event of every file.
    pub(super) fn version() -> Self {
        Event {
            file_version: Some("brain.Event:2".into()),
            ..Event::default()
        }
    }

    /// A session begins with `step`: what older files say of it and later ones is void.
    pub(super) fn session_start(step: u64) -> Self {
        Event {
            step: i64::try_from(step).ok(),
            session_log: Some(SessionLog {
                status: Some(START),
            }),
            ..Event::default()
        }
    }

    pub(super) fn values(step: u64, value: Vec<Value>) -> Self {
        Event {
            step: i64::try_from(step).ok(),
            summary: Some(Summary { value }),
            ..Event::default()
        }
    }

    /// The event's bytes, written at `wall_time`.
    pub(super) fn at(&self, wall_time: f64) -> Vec<u8> {
        Event {
            wall_time: Some(wall_time),
            ..self.clone()
        }
        .encode_to_vec()
    }
}

impl Value {
    pub(super) fn scalar(tag: &str, value: f64) -> Self {
        Value {
            tag: Some(tag.into()),
            simple_value: Some(value as f32),
            ..Value::default()
        }
    }

    /// Markdown for the text tab.
    pub(super) fn text(tag: &str, text: &str) -> Self {
        Value {
            tag: Some(tag.into()),
            tensor: Some(Tensor {
                dtype: Some(DT_STRING),
                shape: Some(Shape {
                    dim: vec![Dim { size: Some(1) }],
                }),
                string_val: vec![text.as_bytes().to_vec()],
            }),
            metadata: Some(Metadata {
                plugin_data: Some(PluginData {
                    plugin_name: Some("text".into()),
                }),
            }),
            ..Value::default()
        }
    }
}
