//! A picture to draw on.

use std::convert::Infallible;

use embedded_graphics::{
    Drawable, Pixel,
    draw_target::DrawTarget,
    geometry::{OriginDimensions, Point, Size},
    mono_font::{MonoFont, MonoTextStyle, iso_8859_1},
    pixelcolor::{Rgb888, RgbColor},
    text::{Baseline, Text},
};
use image::{ExtendedColorType, ImageEncoder, ImageError, codecs::png::PngEncoder};

use super::{Sheet, colours::Rgb};

/// Eight-bit colours, rows from the top.
pub struct Canvas {
    pub width: usize,
    pub height: usize,
    data: Vec<u8>,
}

/// A picture to put on a canvas.
pub struct Panel {
    pub width: usize,
    pub height: usize,
    pub pixels: Vec<Rgb>,
}

/// Letters of a title, and of everything else.
#[derive(Clone, Copy)]
pub enum Font {
    Large,
    Small,
}

const INK: Rgb = [24, 30, 40];
/// Around letters that lie over a picture.
const EDGE: Rgb = [0; 3];
/// Between things.
pub const GAP: usize = 16;
/// Of the colour bar and its numbers.
const BAR: usize = 16;
const NUMBERS: usize = 72;
/// The title's two lines.
pub const HEAD: usize = 52;

impl Font {
    fn face(self) -> &'static MonoFont<'static> {
        match self {
            Font::Large => &iso_8859_1::FONT_10X20,
            Font::Small => &iso_8859_1::FONT_7X13,
        }
    }

    fn width(self) -> usize {
        self.face().character_size.width as usize
    }
}

impl Canvas {
    /// A white canvas with room for `content` = `[width, height]`, with the title above and the colour bar to the right.
    pub fn sheet([width, height]: [usize; 2], sheet: &Sheet) -> Self {
        let total = (width + 3 * GAP + BAR + NUMBERS).max(MIN_WIDTH);
        let mut canvas = Canvas::white(total, height + HEAD + 2 * GAP);
        let fit = |font: Font| (total - 2 * GAP) / font.width();
        canvas.text(
            [GAP, GAP],
            &cut(&sheet.title, fit(Font::Large)),
            Font::Large,
            INK,
        );
        canvas.text(
            [GAP, GAP + 24],
            &cut(&sheet.about, fit(Font::Small)),
            Font::Small,
            INK,
        );
        canvas.bar([width + 2 * GAP, GAP + HEAD], height.min(MOST_BAR), sheet);
        canvas
    }

    fn white(width: usize, height: usize) -> Self {
        Canvas {
            width,
            height,
            data: vec![255; width * height * 3],
        }
    }

    /// The colour bar with its numbers, over mid grey as if that were the picture.
    fn bar(&mut self, [left, top]: [usize; 2], height: usize, sheet: &Sheet) {
        let rows = height.max(2);
        for y in 0..rows {
            let value = sheet.scale.at(y as f32 / (rows - 1) as f32);
            let colour = sheet.scale.over(value, [128; 3]);
            (0..BAR).for_each(|x| self.set([left + x, top + y], colour));
        }
        let ticks = sheet.scale.ticks();
        let last = (ticks.len() - 1).max(1);
        for (i, tick) in ticks.iter().enumerate() {
            let y = top + i * (rows - 1) / last;
            (BAR..BAR + 4).for_each(|x| self.set([left + x, y], INK));
            let place = [left + BAR + 7, y.saturating_sub(6)];
            self.text(place, &sheet.scale.label(*tick), Font::Small, INK);
        }
    }

    /// One pixel; nothing beyond the border.
    pub fn set(&mut self, [x, y]: [usize; 2], colour: Rgb) {
        if x < self.width && y < self.height {
            let place = 3 * (y * self.width + x);
            self.data[place..place + 3].copy_from_slice(&colour);
        }
    }

    /// Puts a picture on it.
    pub fn put(&mut self, [left, top]: [usize; 2], panel: &Panel) {
        for (i, &colour) in panel.pixels.iter().enumerate() {
            self.set([left + i % panel.width, top + i / panel.width], colour);
        }
    }

    /// A line of text from its upper left corner; letters beyond Latin-1 become question marks.
    pub fn text(&mut self, [x, y]: [usize; 2], text: &str, font: Font, [r, g, b]: Rgb) {
        let style = MonoTextStyle::new(font.face(), Rgb888::new(r, g, b));
        let place = Point::new(x as i32, y as i32);
        let Ok(_) = Text::with_baseline(text, place, style, Baseline::Top).draw(self);
    }

    /// A line of text with a dark edge of one pixel, which stands out from black and white alike.
    pub fn edged_text(&mut self, [x, y]: [usize; 2], text: &str, font: Font, colour: Rgb) {
        for edge in 0..9 {
            let place = [
                (x + edge % 3).wrapping_sub(1),
                (y + edge / 3).wrapping_sub(1),
            ];
            self.text(place, text, font, EDGE);
        }
        self.text([x, y], text, font, colour);
    }

    /// As a PNG file.
    pub fn png(&self) -> Result<Vec<u8>, ImageError> {
        let mut file = Vec::new();
        let size = [self.width as u32, self.height as u32];
        PngEncoder::new(&mut file).write_image(
            &self.data,
            size[0],
            size[1],
            ExtendedColorType::Rgb8,
        )?;
        Ok(file)
    }
}

/// Narrower sheets would have no room for a title.
const MIN_WIDTH: usize = 420;
/// Longer bars say no more.
const MOST_BAR: usize = 320;

/// A text that fits, with dots where letters are missing.
fn cut(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        false => text.to_string(),
        true => text
            .chars()
            .take(most.saturating_sub(3))
            .chain("...".chars())
            .collect(),
    }
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(self.width as u32, self.height as u32)
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(
        &mut self,
        pixels: I,
    ) -> Result<(), Infallible> {
        for Pixel(place, colour) in pixels {
            if let (Ok(x), Ok(y)) = (usize::try_from(place.x), usize::try_from(place.y)) {
                self.set([x, y], [colour.r(), colour.g(), colour.b()]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edged_letters_stand_out_from_black_and_white() {
        const YELLOW: Rgb = [250, 220, 110];
        for ground in [0, 255] {
            let mut canvas = Canvas::white(12, 16);
            canvas.put(
                [0, 0],
                &Panel {
                    width: 12,
                    height: 16,
                    pixels: vec![[ground; 3]; 12 * 16],
                },
            );
            canvas.edged_text([2, 1], "R", Font::Small, YELLOW);
            let count = |colour: Rgb| canvas.data.chunks(3).filter(|c| *c == colour).count();
            assert!(count(YELLOW) > 15, "{}", count(YELLOW));
            assert!(count(EDGE) > count(YELLOW), "{}", count(EDGE));
        }
    }
}
