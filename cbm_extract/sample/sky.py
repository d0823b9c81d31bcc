"""Clouds, their shadows and cirrus, as scene classes and as what they do to reflectance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cbm_extract.sample.season import Acquisition

Float = npt.NDArray[np.float32]

SHADOW, CLOUD_MEDIUM, CLOUD_HIGH, CIRRUS = 3, 8, 9, 10
PIXEL_M = 20.0

# Reflectance in the order of crops.BANDS: of thick cloud, and what full cirrus adds.
CLOUD = np.array([0.74, 0.72, 0.71, 0.72, 0.73, 0.74, 0.75, 0.75, 0.45, 0.36])
CIRRUS_ADDS = np.array([0.090, 0.085, 0.080, 0.080, 0.075, 0.075, 0.070, 0.070, 0.030, 0.020])

_CLOUD_HEIGHT_M = 1100.0
_THINNEST = 0.35  # opacity at a cloud's edge: nothing is cloudy without its class saying so
_THICK = 0.75


@dataclass(frozen=True)
class Sky:
    """The sky over the scene on the 20 m grid (all [rows, columns]).

    ``classes`` uint8: 0 where clear, else the scene class 3, 8, 9 or 10. ``opacity`` (of clouds),
    ``veil`` (of cirrus) and ``light`` (1 in the sun, less in shadow) are float32; where ``classes``
    is 0 they are exactly 0, 0 and 1.
    """

    classes: npt.NDArray[np.uint8]
    opacity: Float
    veil: Float
    light: Float


def fractal(rng: np.random.Generator, side: int, slope: float, longest: float = 1.0) -> Float:
    """Draw a periodic field of power spectrum k^-slope, mean 0, deviation 1: float32 [side, side].

    ``longest`` is the longest wave as a share of the side.
    """
    spectrum = np.fft.rfft2(rng.standard_normal((side, side)))
    rows, columns = np.fft.fftfreq(side)[:, None] * side, np.fft.rfftfreq(side)[None, :] * side
    wave = np.hypot(rows, columns)
    gain = np.where(wave >= 1.0 / longest, np.maximum(wave, 1.0) ** (-slope / 2), 0.0)
    field = np.fft.irfft2(spectrum * gain, s=(side, side))
    return np.asarray((field - field.mean()) / field.std(), dtype=np.float32)


def make_sky(rng: np.random.Generator, acquisition: Acquisition, side: int) -> Sky:
    """Draw the sky of an acquisition on a square of ``side`` pixels of 20 m."""
    opacity = np.zeros((side, side), np.float32)
    if acquisition.cloud_share > 0:
        field = fractal(rng, side, 3.3, 0.5)
        above = field - np.quantile(field, 1.0 - acquisition.cloud_share)
        thick = _THINNEST + (1.0 - _THINNEST) * (1.0 - np.exp(-above / np.float32(0.25)))
        opacity = np.where(above > 0, thick, 0.0).astype(np.float32)
    cast = np.roll(opacity, _shadow_shift(acquisition.sun), axis=(0, 1))
    shadow = (cast > 0) & (opacity == 0)
    light = np.where(shadow, 1.0 - 0.65 * cast, 1.0).astype(np.float32)
    veil = np.zeros((side, side), np.float32)
    if acquisition.cirrus_share > 0:
        field = fractal(rng, side, 3.8)
        above = field - np.quantile(field, 1.0 - acquisition.cirrus_share)
        thin = (above > 0) & (opacity == 0) & ~shadow
        veil = np.where(thin, np.clip(0.3 + above, 0.0, 1.0), 0.0).astype(np.float32)
    classes = np.zeros((side, side), np.uint8)
    classes[shadow] = SHADOW
    classes[veil > 0] = CIRRUS
    classes[opacity > 0] = CLOUD_MEDIUM
    classes[opacity >= _THICK] = CLOUD_HIGH
    return Sky(classes, opacity, veil, light)


def _shadow_shift(sun: tuple[float, float]) -> tuple[int, int]:
    """Rows and columns from a cloud to its shadow."""
    azimuth, elevation = np.radians(sun[0]), np.radians(sun[1])
    reach = _CLOUD_HEIGHT_M / np.tan(elevation) / PIXEL_M
    return round(np.cos(azimuth) * reach), round(-np.sin(azimuth) * reach)
