/// An image of 8-bit RGB pixels, row by row.
public struct Pixels: Equatable, Sendable {
    public let width: Int
    public let height: Int
    public let rgb: [UInt8]

    public init(width: Int, height: Int, rgb: [UInt8]) {
        precondition(rgb.count == width * height * 3)
        self.width = width
        self.height = height
        self.rgb = rgb
    }

    /// From pixels of four bytes, of which `red` is the place of the red one: 0 in RGBA, 2 in BGRA.
    public init(fourBytes: UnsafeRawBufferPointer, width: Int, height: Int, bytesPerRow: Int, red: Int) {
        let rgb = [UInt8](unsafeUninitializedCapacity: width * height * 3) { output, count in
            for y in 0..<height {
                for x in 0..<width {
                    let pixel = y * bytesPerRow + 4 * x
                    output[count] = fourBytes[pixel + red]
                    output[count + 1] = fourBytes[pixel + 1]
                    output[count + 2] = fourBytes[pixel + 2 - red]
                    count += 3
                }
            }
        }
        self.init(width: width, height: height, rgb: rgb)
    }
}

/// The filters that a bundle may ask for.
public enum Interpolation: String, Sendable {
    case bilinear, bicubic

    /// How many samples of the output's grid it reaches to each side.
    var radius: Double { self == .bilinear ? 1 : 2 }

    func weight(_ distance: Double) -> Double {
        let x = abs(distance)
        switch self {
        case .bilinear: return x < 1 ? 1 - x : 0
        case .bicubic:
            let a = -0.5
            if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
            return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0
        }
    }
}

extension Pixels {
    /// Rows first, then columns, rounded to 8 bits after each; a side that keeps its size is not resampled.
    func resampled(width newWidth: Int, height newHeight: Int, by filter: Interpolation) -> Pixels {
        var image = self
        if newWidth != width {
            image = image.withResampledRows(Taps.all(from: width, to: newWidth, by: filter))
        }
        if newHeight != height {
            image = image.withResampledColumns(Taps.all(from: height, to: newHeight, by: filter))
        }
        return image
    }

    private func withResampledRows(_ taps: [Taps]) -> Pixels {
        var output = [UInt8](repeating: 0, count: taps.count * height * 3)
        rgb.withUnsafeBufferPointer { pixels in
            for y in 0..<height {
                for (x, tap) in taps.enumerated() {
                    for channel in 0..<3 {
                        let start = (y * width + tap.first) * 3 + channel
                        output[(y * taps.count + x) * 3 + channel] = tap.sum(pixels, start: start, stride: 3)
                    }
                }
            }
        }
        return Pixels(width: taps.count, height: height, rgb: output)
    }

    private func withResampledColumns(_ taps: [Taps]) -> Pixels {
        let row = width * 3
        var output = [UInt8](repeating: 0, count: taps.count * row)
        rgb.withUnsafeBufferPointer { pixels in
            for (y, tap) in taps.enumerated() {
                for column in 0..<row {
                    output[y * row + column] = tap.sum(pixels, start: tap.first * row + column, stride: row)
                }
            }
        }
        return Pixels(width: width, height: taps.count, rgb: output)
    }
}

/// The samples that one sample of the output is made of: weights of 22 fractional bits, for the inputs from `first` on.
private struct Taps {
    static let bits = 22

    let first: Int
    let weights: [Int]

    /// One for each of `count` outputs from `size` inputs.
    static func all(from size: Int, to count: Int, by filter: Interpolation) -> [Taps] {
        let scale = Double(size) / Double(count)
        let stretch = max(scale, 1)
        let support = stretch * filter.radius
        return (0..<count).map { index in
            let centre = (Double(index) + 0.5) * scale
            let first = max(0, Int(centre - support + 0.5))
            let end = min(size, Int(centre + support + 0.5))
            let weights = (0..<end - first).map { tap in
                filter.weight((Double(tap + first) - centre + 0.5) * (1 / stretch))
            }
            let total = weights.reduce(0, +)
            return Taps(first: first, weights: weights.map { fixed($0 / total) })
        }
    }

    private static func fixed(_ weight: Double) -> Int {
        Int(weight * Double(1 << bits) + (weight < 0 ? -0.5 : 0.5))
    }

    func sum(_ samples: UnsafeBufferPointer<UInt8>, start: Int, stride: Int) -> UInt8 {
        var sum = 1 << (Taps.bits - 1)
        var index = start
        for weight in weights {
            sum += weight * Int(samples[index])
            index += stride
        }
        return UInt8(min(max(sum >> Taps.bits, 0), 255))
    }
}
