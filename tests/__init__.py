"""The proof that Haulier keeps its promises."""
