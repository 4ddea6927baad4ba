import EdgeViTCore
import UIKit

extension Pixels {
    /// A photo's, upright as it is shown, in sRGB.
    init(photo data: Data) throws {
        let format = CGImageAlphaInfo.noneSkipLast.rawValue
        guard let image = UIImage(data: data), let space = CGColorSpace(name: CGColorSpace.sRGB),
            let context = CGContext(
                data: nil, width: Int(image.size.width), height: Int(image.size.height), bitsPerComponent: 8,
                bytesPerRow: 0, space: space, bitmapInfo: format)
        else {
            throw Problem("This photo cannot be read: choose another.")
        }
        context.translateBy(x: 0, y: CGFloat(context.height))
        context.scaleBy(x: 1, y: -1)
        UIGraphicsPushContext(context)
        image.draw(in: CGRect(x: 0, y: 0, width: context.width, height: context.height))
        UIGraphicsPopContext()
        let bytes = UnsafeRawBufferPointer(start: context.data, count: context.height * context.bytesPerRow)
        self.init(
            fourBytes: bytes, width: context.width, height: context.height, bytesPerRow: context.bytesPerRow, red: 0)
    }
}
