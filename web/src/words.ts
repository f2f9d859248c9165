/** What went wrong, in words for people: what it is, and what to do. */
import { Problem, Unreachable, Unreadable } from "./api";

export interface Words {
  what: string;
  cure: string;
}

const AGAIN = "Try again. If it happens again, tell whoever runs the service.";
const RELOAD = "Reload the page and try again.";
const CHOOSE = "Choose the file again to begin anew.";
const ANEW = "To begin anew, remove it from the list and add it again.";

/** One text per problem that the service has a page for; a test compares the two. */
export const WORDS: Readonly<Record<string, readonly [what: string, cure: string]>> = {
  "access-denied": ["You may not do this.", "Ask the owner of this space for the right to."],
  "asset-not-found": ["This file has no such picture or part.", RELOAD],
  "body-cut": ["The connection broke while sending.", "It goes on by itself; else press Retry."],
  "capsule-not-found": [
    "This space does not exist, or is not open to you.",
    "Check its name, or ask its owner.",
  ],
  "chunk-conflict": [
    "The file changed while it was being sent.",
    "Remove it from the list and add it again, so that all of it is sent as it is now.",
  ],
  "chunk-out-of-range": ["The page and the service disagree about this upload.", CHOOSE],
  "chunk-too-long": ["The page and the service disagree about this upload.", CHOOSE],
  "chunk-too-short": [
    "The file became shorter while it was being sent.",
    "Remove it from the list and add it again.",
  ],
  "chunks-missing": ["A part of the file has not arrived.", "Press Retry: only what is missing is sent."],
  "content-invalid": [
    "The file is not what its name says.",
    "Mend it where the details say, and add it again.",
  ],
  "coding-not-supported": ["Something between you and the service changes what is sent.", AGAIN],
  "digest-malformed": ["The check sum that was given cannot be read.", AGAIN],
  "digest-mismatch": ["What arrived is not what was sent.", "Press Retry: it is sent again."],
  "directory-not-creatable": [
    "The service cannot make the folder that it needs.",
    "Whoever runs it has to look after its disk.",
  ],
  "file-empty": ["The file is empty.", "Choose another one."],
  "head-too-large": ["The request is too large.", "Shorten the file's name or folder, or sign in again."],
  "hook-unavailable": [
    "The check that judges new files is not reachable.",
    "It is tried again; else wait a little.",
  ],
  "host-refused": [
    "The service does not answer to this address.",
    "Open it by the address that it was given.",
  ],
  "idempotency-key-reused": ["The file changed since its upload began.", CHOOSE],
  "inconsistent-upload-length": ["The page and the service disagree about how long the file is.", CHOOSE],
  "internal-error": ["Something went wrong in the service.", AGAIN],
  "invalid-request": ["The service cannot use what was entered.", "Check the name, folder or dates."],
  "length-exceeded": [
    "The file is larger than it said it was.",
    "Wait until nothing writes to it, then add it again.",
  ],
  "link-not-found": ["This link is dead.", "Its time is over or its file was deleted; ask for a new one."],
  "malformed-body": ["The service cannot read the request.", RELOAD],
  "malformed-request": ["The service cannot read the request.", RELOAD],
  "method-not-allowed": ["The service does not know this action.", RELOAD],
  "not-local": [
    "The service only serves the user of its own machine.",
    "Open it there, at 127.0.0.1, or ask whoever runs it to open it to you.",
  ],
  "offset-mismatch": [
    "The page and the service disagree about how much arrived.",
    "Press Retry: it goes on at the right place.",
  ],
  "origin-refused": [
    "This page was not opened from the service itself.",
    "Open it by the service's own address.",
  ],
  "queue-full": ["The service has too much to do just now.", "It is tried again by itself in a moment."],
  "quota-exceeded": [
    "There is no room left for you here.",
    "Delete files that you do not need, or ask for more room.",
  ],
  "precondition-failed": ["This is another file than was asked for.", "Download it anew."],
  "range-not-satisfiable": ["The file does not have this part.", "Download it anew."],
  "rate-limited": ["Too much at once.", "It goes on by itself in a moment."],
  "record-not-found": ["This file is gone.", "It was deleted, or its time in the trash is over."],
  "refused-by-host": ["The service that this page is a part of refused this.", "Ask whoever runs it."],
  "request-timeout": [
    "The connection is too slow or stood still.",
    "It goes on by itself; else press Retry.",
  ],
  "route-not-found": ["The service does not have this.", RELOAD],
  "service-stopping": ["The service is being restarted.", "It goes on by itself in a moment."],
  "storage-full": [
    "The service's disk is full.",
    "What arrived is kept. Delete files, or ask for more room; then press Retry.",
  ],
  "storage-not-writable": ["The service may not write to its disk.", "Whoever runs it has to mend that."],
  "storage-unavailable": ["The service cannot reach its disk or database.", "It is tried again by itself."],
  "target-too-long": ["The name is too long.", "Shorten the file's name or folder."],
  "tus-version-refused": ["Another program speaks a protocol that the service does not know.", AGAIN],
  "transfer-not-found": ["This transfer is gone.", "It was removed, or its result is older than a month."],
  "type-not-accepted": [
    "Files of this kind are not accepted here.",
    "Choose another kind, or ask the owner of this space.",
  ],
  unauthenticated: ["You are not signed in, or no longer.", "Sign in; what was sent is kept."],
  "upload-busy": ["Another window is finishing this upload.", "It goes on by itself in a moment."],
  "upload-complete": ["This upload is complete already.", "Look for it under Files."],
  "upload-gone": ["This upload was ended, or its time is over.", ANEW],
  "upload-not-found": ["The service does not know this upload any more.", CHOOSE],
  "upload-refused": ["The service looked at the file and refused it.", "Ask the owner of this space why."],
  "visitor-not-found": ["This browser is not known here any more.", "Reload the page to become known again."],
};

/** Problems that say in their detail what exactly is wrong, for whoever is to mend it. */
const SPEAKING: readonly string[] = [
  "content-invalid",
  "invalid-request",
  "refused-by-host",
  "upload-refused",
];

/** What an upload ended as. */
const ENDS: Readonly<Record<string, string>> = {
  aborted: "This upload was ended from somewhere else.",
  failed: "The service did not take this file.",
};

/** Why a record has fewer pictures than it might; the file itself is here all the same. */
export const PICTURES: Readonly<Record<string, string>> = {
  "image-too-large": "No smaller pictures could be made: the image is too large.",
  "image-broken": "No smaller pictures could be made: the image is damaged or cut off.",
  "format-unsupported": "No smaller pictures could be made: files of this kind are not understood.",
  "image-timeout": "No smaller pictures could be made: it took too long.",
  "image-crashed": "No smaller pictures could be made: the image could not be opened.",
  "quota-exceeded": "No smaller pictures could be made: there is no room for them.",
  "queue-full": "No smaller pictures yet: too many are waiting.",
};

/** Say what a record's `error` means. */
export function wordsOfRecord(error: string): string {
  const problem = WORDS[error];
  return PICTURES[error] ?? (problem ? problem.join(" ") : error);
}

const UNREACHABLE: Words = {
  what: "The service cannot be reached.",
  cure: "Check the network; it goes on by itself.",
};

const UNREADABLE: Words = {
  what: "The file was changed, moved or removed while it was being sent.",
  cure: "Remove it from the list and add it again.",
};

/** Say what an error means; a problem that is new here speaks for itself. */
export function wordsOf(error: unknown): Words {
  if (error instanceof Unreachable) return UNREACHABLE;
  if (error instanceof Unreadable) return UNREADABLE;
  if (!(error instanceof Problem)) return { what: "Something went wrong in this page.", cure: RELOAD };
  const known = WORDS[error.slug];
  if (known) return { what: said(factOf(error, known[0]), ownWords(error)), cure: known[1] };
  return { what: error.title ? `${error.title}.` : "The service refused this.", cure: error.detail };
}

function factOf({ slug, members }: Problem, known: string): string {
  return (slug === "upload-gone" && ENDS[String(members["upload_status"])]) || known;
}

/** What the service itself says about this one case. */
function ownWords({ slug, detail, members }: Problem): string {
  if (slug === "upload-gone") return typeof members["error"] === "string" ? members["error"] : "";
  return SPEAKING.includes(slug) ? detail : "";
}

/** One sentence: what it is, and behind a colon what programs say of it. */
function said(what: string, more: string): string {
  return more === "" ? what : `${what.replace(/\.$/, "")}: ${more.replace(/\.$/, "")}.`;
}

export function sentence(error: unknown): string {
  const { what, cure } = wordsOf(error);
  return `${what} ${cure}`.trim();
}
