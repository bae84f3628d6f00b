//! A list of what is the case: labels and what stands beside them.

use super::html::Html;

/// The list.
pub(super) struct Facts {
    rows: Vec<(&'static str, Html)>,
    class: &'static str,
}

impl Facts {
    pub(super) fn new() -> Self {
        Self { rows: Vec::new(), class: "facts" }
    }

    /// One whose entries are a word or a number each: they stay beside their labels on a phone.
    pub(super) fn short() -> Self {
        Self { rows: Vec::new(), class: "facts short" }
    }

    /// One more; what stands beside it is for the caller to fill.
    pub(super) fn row(&mut self, label: &'static str) -> &mut Html {
        self.rows.push((label, Html::new()));
        &mut self.rows.last_mut().expect("it was just put there").1
    }

    /// A section of the page with all of them; `id` is its own in the page.
    pub(super) fn section(&self, main: &mut Html, id: &'static str, heading: &'static str) {
        main.tags("<section aria-labelledby=\"").tags(id).tags("\"><h2 id=\"").tags(id);
        main.tags("\">").tags(heading).tags("</h2><dl class=\"").tags(self.class).tags("\">");
        for (label, told) in &self.rows {
            main.tags("<div><dt>").tags(label).tags("</dt><dd>").add(told).tags("</dd></div>");
        }
        main.tags("</dl></section>");
    }
}
