//! A sweep of learning rates.

use maud::html;

use crate::{
    chart::Chart,
    document::Facts,
    page::{facts, figure, page},
};

/// What trying learning rates found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sweep {
    /// What was trained on.
    pub title: String,
    /// What to do with it, in a sentence.
    pub verdict: String,
    /// Loss by learning rate.
    pub chart: Chart,
    /// How it was found.
    pub facts: Facts,
    /// Who made this: program and version.
    pub maker: String,
}

impl Sweep {
    /// The page as one HTML file.
    pub fn html(&self) -> String {
        let body = html! {
            header {
                p.kind { "Learning rates" }
                h1 { (self.title) }
                p.status { (self.verdict) }
            }
            section.one { (figure(&self.chart)) }
            section { h2 { "Facts" } (facts(&self.facts)) }
        };
        page(
            &format!("{} · learning rates", self.title),
            &self.maker,
            &body,
        )
    }
}
