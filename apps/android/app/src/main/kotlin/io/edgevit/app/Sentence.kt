package io.edgevit.app

import io.edgevit.core.Problem

/** What to tell the user of an error. */
fun sentence(error: Exception): String =
    if (error is Problem) error.message!! else "this failed for a reason that the app does not know ($error): report it"
