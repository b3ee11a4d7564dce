//! What all plots have in common: letters and colours.

use std::sync::OnceLock;

use plotters::style::{FontStyle, RGBColor, register_font};

/// The name of the only letters there are.
pub(crate) const LETTERS: &str = "sans-serif";

/// The colours of up to three series, to be told apart also by those who see no red.
pub(crate) const COLOURS: [RGBColor; 3] =
    [RGBColor(0, 90, 181), RGBColor(220, 120, 0), RGBColor(70, 70, 70)];

/// Makes the letters known. To be called before anything is drawn.
pub(crate) fn prepare() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        let letters = epaint_default_fonts::UBUNTU_LIGHT;
        let known = register_font(LETTERS, FontStyle::Normal, letters);
        known.map_err(|_| ()).expect("the letters are a font");
    });
}
