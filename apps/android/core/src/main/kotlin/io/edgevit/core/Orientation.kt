package io.edgevit.core

/** How a photo is turned to be upright: clockwise by so many [degrees], and then, if [mirrored], left to right. */
data class Orientation(val degrees: Int, val mirrored: Boolean = false) {
    companion object {
        /** Of what EXIF says (CIPA DC-008, tag 0x0112); whatever else it says is upright. */
        fun of(exif: Int): Orientation =
            when (exif) {
                2 -> Orientation(0, mirrored = true)
                3 -> Orientation(180)
                4 -> Orientation(180, mirrored = true)
                5 -> Orientation(90, mirrored = true)
                6 -> Orientation(90)
                7 -> Orientation(270, mirrored = true)
                8 -> Orientation(270)
                else -> Orientation(0)
            }
    }
}
