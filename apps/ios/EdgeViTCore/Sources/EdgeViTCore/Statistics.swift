import Foundation

/// Of sorted values, linear between neighbours.
public func percentile(_ p: Double, of sorted: [Double]) -> Double {
    let place = Double(sorted.count - 1) * p / 100
    let low = Int(place)
    let high = min(low + 1, sorted.count - 1)
    return sorted[low] + (sorted[high] - sorted[low]) * (place - Double(low))
}

/// The 50th percentile, of values in any order.
public func median(_ values: [Double]) -> Double {
    percentile(50, of: values.sorted())
}

/// Signal to quantisation noise in dB, 200 at most.
public func sqnr(reference: [Double], output: [Double]) -> Double {
    let signal = reference.reduce(0) { $0 + $1 * $1 }
    let noise = zip(reference, output).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
    return noise == 0 ? 200 : min(200, 10 * log10(signal / noise))
}
