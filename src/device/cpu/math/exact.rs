//! Functions with an exact result.

/// Half away from zero, as `f32::round`.
#[inline(always)]
pub(crate) fn round(x: f32) -> f32 {
    const WHOLE: f32 = 8_388_608.0; // 2^23: from here on every f32 is whole
    let magnitude = x.abs();
    let nearest = (magnitude + WHOLE) - WHOLE; // half to even
    let up = if magnitude - nearest == 0.5 {
        nearest + 1.0
    } else {
        nearest
    };
    let rounded = if magnitude < WHOLE { up } else { magnitude };
    rounded.copysign(x)
}

/// The largest whole number that is not above `x`.
#[inline(always)]
pub(crate) fn floor(x: f32) -> f32 {
    const WHOLE: f32 = 8_388_608.0;
    let magnitude = x.abs();
    let nearest = ((magnitude + WHOLE) - WHOLE).copysign(x);
    let down = if nearest > x { nearest - 1.0 } else { nearest };
    let floor = if magnitude < WHOLE { down } else { x };
    floor.copysign(if floor == 0.0 { x } else { floor })
}

/// The smallest whole number that is not below `x`.
#[inline(always)]
pub(crate) fn ceil(x: f32) -> f32 {
    -floor(-x)
}
