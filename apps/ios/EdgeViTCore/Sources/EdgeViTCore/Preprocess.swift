import Foundation

/// How an image becomes a model's input, to the last bit as Pillow and NumPy do it.
public struct Preprocess: Decodable, Equatable, Sendable {
    /// The length of the short side after resampling.
    public let resize: Int
    /// The side of the square that is cut from the centre.
    public let crop: Int
    public let interpolation: Interpolation
    public let mean: [Float]
    public let std: [Float]

    enum CodingKeys: CodingKey {
        case resize, crop, interpolation, mean, std
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        resize = try fields.decode(Int.self, forKey: .resize)
        crop = try fields.decode(Int.self, forKey: .crop)
        let name = try fields.decode(String.self, forKey: .interpolation)
        guard let known = Interpolation(rawValue: name) else {
            throw refusal("its interpolation \(name) is neither bilinear nor bicubic")
        }
        interpolation = known
        mean = try fields.decode([Double].self, forKey: .mean).map { Float($0) }
        std = try fields.decode([Double].self, forKey: .std).map { Float($0) }
        guard mean.count == 3, std.count == 3, !std.contains(0) else {
            throw refusal("mean and std have to be three numbers each, and no std 0")
        }
    }

    /// `[3, crop, crop]`, channel by channel.
    public func callAsFunction(_ image: Pixels) -> [Float] {
        let scale = Double(resize) / Double(min(image.width, image.height))
        let width = max(crop, Int((Double(image.width) * scale).rounded(.toNearestOrEven)))
        let height = max(crop, Int((Double(image.height) * scale).rounded(.toNearestOrEven)))
        let resized = image.resampled(width: width, height: height, by: interpolation)
        return normalised(resized, left: (width - crop) / 2, top: (height - crop) / 2)
    }

    private func normalised(_ image: Pixels, left: Int, top: Int) -> [Float] {
        var tensor = [Float]()
        tensor.reserveCapacity(3 * crop * crop)
        for channel in 0..<3 {
            for y in top..<top + crop {
                for x in left..<left + crop {
                    let pixel = Float(image.rgb[(y * image.width + x) * 3 + channel])
                    tensor.append((pixel / 255 - mean[channel]) / std[channel])
                }
            }
        }
        return tensor
    }
}
