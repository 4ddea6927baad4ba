package io.edgevit.core

import java.io.File
import java.io.FileNotFoundException
import java.io.InputStream
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest

/** A bundle that lies in a folder, where runtimes can map its files. */
class Store(val bundle: Bundle, val folder: File) {
    /** The file of a runtime's model. */
    fun model(runtime: String) = File(folder, bundle.model(runtime).path)

    /** The values of the reference input. */
    fun input(): FloatArray = floats(bundle.reference.file, bundle.input.values)

    /** The logits that the host's runtime gave for the reference input. */
    fun logits(runtime: String): FloatArray = floats(bundle.model(runtime).reference.file, bundle.classes)

    /** Throws Problem unless every file that these runtimes' models need is the one that the bundle means. */
    fun check(runtimes: Collection<String> = bundle.models.keys) {
        for ((path, sha256) in bundle.files(runtimes)) {
            demand(File(folder, path).inputStream().use(::sha256) == sha256) {
                "$path is not the file that bundle.json names: clear the app's storage, or run edgevit bundle again"
            }
        }
    }

    private fun floats(path: String, count: Int): FloatArray {
        val bytes = File(folder, path).readBytes()
        demand(bytes.size == 4 * count) {
            "$path has ${bytes.size} bytes and not those of $count float32: run edgevit bundle again"
        }
        return FloatArray(count).also { ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(it) }
    }

    companion object {
        private const val PREFIX = "bundle-"

        /** The app's own bundle, which [open] reads by path: copied below [home] once, whole or not at all. */
        fun install(home: File, open: (String) -> InputStream): Store {
            val text = text(open)
            val bundle = Bundle.parse(text)
            val folder = File(home, PREFIX + sha256(text.byteInputStream()).take(16))
            locked(home) { if (!folder.isDirectory) copy(bundle, home, folder, open) }
            return Store(bundle, folder)
        }

        /** One process and one thread at a time. */
        @Synchronized
        private fun locked(home: File, act: () -> Unit) =
            RandomAccessFile(File(home, "lock"), "rw").use { file -> file.channel.lock().use { act() } }

        private fun text(open: (String) -> InputStream): String =
            try {
                open("bundle.json").use { it.readBytes().decodeToString() }
            } catch (error: FileNotFoundException) {
                throw Problem(
                    "there is no model in this app: run edgevit bundle EXPORT --app android, and build what it writes",
                    error,
                )
            }

        private fun copy(bundle: Bundle, home: File, folder: File, open: (String) -> InputStream) {
            home.listFiles { file -> file.name.startsWith(PREFIX) }?.forEach { it.deleteRecursively() }
            val staged = File(home, PREFIX + "staged")
            for (path in bundle.files().keys) {
                val file = File(staged, path).apply { parentFile!!.mkdirs() }
                open(path).use { source -> file.outputStream().use(source::copyTo) }
            }
            Store(bundle, staged).check()
            demand(staged.renameTo(folder)) { "$folder cannot be written: free some of the device's storage" }
        }
    }
}

/** In hexadecimal. */
internal fun sha256(stream: InputStream): String {
    val digest = MessageDigest.getInstance("SHA-256")
    val buffer = ByteArray(1 shl 16)
    while (true) {
        val count = stream.read(buffer)
        if (count < 0) return digest.digest().joinToString("") { "%02x".format(it) }
        digest.update(buffer, 0, count)
    }
}
