/** One upload of the service's native API: of a small file one request, else a session that is begun once, sent in chunks
 * and finished once.
 *
 * Rule 1: what is kept of it (`Ticket`) is enough to go on from any page, after a reload or in another tab.
 * Rule 2: what arrived is the service's to say; it is asked before anything is sent again.
 * Rule 3: the network and a service that is busy or restarted are waited for as long as it takes. A connection on which
 *         nothing moves is given up for another one: many die without a word.
 * Rule 4: whoever waits to try again holds up nobody else.
 * Rule 5: a small file whose request had no answer becomes a session by its key, which has what arrived, or the record.
 * Rule 6: only a session whose time is over, or that nobody knows, is begun anew by itself. One that was refused or ended
 *         by somebody stays ended, and its reason is shown.
 */
import { call, Problem, Unreachable, type FileRecord } from "../api";
import { isPassing, pause, patience, persistently, type OnWait } from "../patience";
import { suitable } from "./pace";
import { transmit } from "./wire";

/** What is kept of a session, with the file. */
export interface Ticket {
  id: string;
  token: string;
  chunkSize: number;
  /** Of the file as it was when the session began. */
  size: number;
  /** Whether it takes bytes at its end, and no chunks. */
  appends?: boolean;
}

interface Begun {
  id: string;
  token: string;
  chunk_size: number;
  size: number;
}

interface State {
  status: "open" | "finishing" | "committed" | "aborted" | "expired" | "failed";
  received: [number, number][];
  missing_chunks: number[];
  result: FileRecord | null;
  error: string | null;
}

export interface Description {
  filename: string;
  size: number;
  path: string | null;
  contentType: string | null;
  /** Makes a begin whose answer was lost repeatable. */
  key: string;
}

/** Up to here a file is sent in one request. */
const WHOLE = 1024 * 1024;
/** Longest path for that: addresses have bounds, and a path may be encoded in nine times its length. */
const WHOLE_PATH = 400;
const SMALL_CHUNK = 1024 * 1024;
const BIG_CHUNK = 8 * 1024 * 1024;
/** Up to here a file is sent in small chunks: what a cut connection costs is at most one of them. */
const SMALL_FILE = 128 * 1024 * 1024;
/** Seconds for one long poll for the end: under the minute after which proxies give up. */
const POLL_S = 25;
/** Chunks of one file at once. */
const LANES = 3;
const BYTES = { "Content-Type": "application/octet-stream" };

/** Whether a file goes in one request; else it needs a session. */
export function isWhole({ filename, path, size }: Omit<Description, "key">): boolean {
  return size <= WHOLE && filename.length + (path?.length ?? 0) <= WHOLE_PATH;
}

/** Send a small file in one request; null where nobody knows what became of it: begin a session with its key then.
 *
 * Throws Problem where the service refuses for good, or the reason of the signal.
 */
export async function sendWhole(file: Description, data: Blob, sending: Sending): Promise<FileRecord | null> {
  const { signal, onProgress } = sending;
  try {
    const text = await sending.turn(file.size, () =>
      transmit({
        method: "PUT",
        // A name may have halves of characters, which no address can have.
        path: `api/files/${encodeURIComponent(file.filename.replace(/\p{Surrogate}/gu, "\ufffd"))}`,
        query: { path: file.path },
        headers: {
          "Idempotency-Key": file.key,
          ...(file.contentType === null ? {} : { "Content-Type": file.contentType }),
        },
        body: data.slice(0, file.size),
        signal,
        onSent: onProgress,
      }),
    );
    const answer = JSON.parse(text) as FileRecord | State;
    return "assets" in answer ? answer : null;
  } catch (error) {
    if (!isPassing(error) && !(error instanceof SyntaxError)) throw error;
    await pause(patience(0, error instanceof Problem ? error.retryAfter : null), signal);
    return null;
  }
}

/** Begin a session, as often as it takes to get an answer; `appends`: that of a small file, see rule 5. */
export async function begin(file: Description, appends: boolean, sending: Sending): Promise<Ticket> {
  const { signal, onWait } = sending;
  return persistently(() => sending.turn(file.size, () => askToBegin(file, appends, signal)), signal, onWait);
}

async function askToBegin(file: Description, appends: boolean, signal?: AbortSignal): Promise<Ticket> {
  const chunks = { chunk_size: suitable(file.size <= SMALL_FILE ? SMALL_CHUNK : BIG_CHUNK) };
  const begun = await call<Begun>("api/uploads", {
    method: "POST",
    headers: { "Idempotency-Key": file.key },
    json: {
      filename: file.filename,
      size: file.size,
      path: file.path,
      content_type: file.contentType,
      ...(appends ? { mode: "append" } : chunks),
    },
    ...(signal && { signal }),
  });
  return { id: begun.id, token: begun.token, chunkSize: begun.chunk_size, size: begun.size, appends };
}

/** End a session without a result; it also ends by itself, so a failure is nobody's worry. */
export async function abandon(ticket: Ticket): Promise<void> {
  await call(`api/uploads/${ticket.id}`, { method: "DELETE", headers: authorization(ticket) }).catch(
    () => undefined,
  );
}

/** The same for what has arrived of a small file that was under way in one request. */
export async function abandonWhole(file: Description): Promise<void> {
  await askToBegin(file, true).then(abandon, () => undefined);
}

/** Whether an error says that this session was forgotten, so that another may begin; see rule 4. */
export function isForgotten(error: unknown): boolean {
  if (!(error instanceof Problem)) return false;
  const expired = error.slug === "upload-gone" && error.members["upload_status"] === "expired";
  return expired || error.slug === "upload-not-found";
}

/** Nothing has arrived in chunks of this size, and the link is too slow for them: another session has smaller ones. */
export class TooCoarse extends Error {}

export interface Sending {
  /** Do something in this file's turn among all uploads of the page; `left`: bytes that it still lacks. */
  turn: <T>(left: number, job: () => Promise<T>) => Promise<T>;
  signal: AbortSignal;
  /** Bytes of the file that arrived or are on their way. */
  onProgress: (bytes: number) => void;
  onWait: OnWait;
}

/** Send what the service lacks and finish; returns the record.
 *
 * Throws Problem where the service refuses for good, or the reason of the signal.
 */
export async function send(ticket: Ticket, data: Blob, sending: Sending): Promise<FileRecord> {
  for (;;) {
    const state = await stateOf(ticket, sending);
    if (state.result) return state.result;
    if (state.status === "open") {
      if (ticket.appends) await append(ticket, data, state, sending);
      else await new Chunks(ticket, data, state, sending).send();
    }
    const record = await finish(ticket, sending);
    if (record) return record;
  }
}

async function stateOf(ticket: Ticket, sending: Sending): Promise<State> {
  const state = await persistently(
    () => call<State>(`api/uploads/${ticket.id}`, { headers: authorization(ticket), signal: sending.signal }),
    sending.signal,
    sending.onWait,
  );
  const { status, error } = state;
  if (["aborted", "expired", "failed"].includes(status)) {
    // As the service itself says it to whoever sends to such an upload.
    const members = { upload_status: status, error };
    throw new Problem(410, "upload-gone", "The upload ended without a result", "", null, members);
  }
  return state;
}

/** Finish; null when there is still something to send, or the end takes long. */
async function finish(ticket: Ticket, sending: Sending): Promise<FileRecord | null> {
  const { signal, onWait } = sending;
  const headers = authorization(ticket);
  try {
    const answer = await persistently(
      () =>
        call<FileRecord & Partial<State>>(`api/uploads/${ticket.id}/finish`, {
          method: "POST",
          headers,
          signal,
        }),
      signal,
      onWait,
    );
    if ("assets" in answer) return answer;
    // 202: all is here, and the end takes longer. Its state is asked for anew afterwards.
    await persistently(
      () => call(`api/uploads/${ticket.id}`, { query: { wait: POLL_S }, headers, signal }),
      signal,
      onWait,
    );
    return null;
  } catch (error) {
    if (error instanceof Problem && error.slug === "chunks-missing") return null;
    throw error;
  }
}

/** Send what is not there yet at the session's end. */
async function append(ticket: Ticket, data: Blob, state: State, sending: Sending): Promise<void> {
  let offset = state.received.at(-1)?.[1] ?? 0;
  const once = async (): Promise<void> => {
    try {
      await transmit({
        method: "PATCH",
        path: `api/uploads/${ticket.id}`,
        headers: { ...authorization(ticket), ...BYTES, "Upload-Offset": String(offset) },
        body: data.slice(offset, ticket.size),
        signal: sending.signal,
        onSent: (bytes) => sending.onProgress(offset + bytes),
      });
      offset = ticket.size;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      // Another request has brought more meanwhile: one of which nobody heard any more.
      if (error.slug === "upload-complete") offset = ticket.size;
      else if (error.slug === "offset-mismatch") offset = Number(error.members["expected"]);
      else throw error;
    }
  };
  while (offset < ticket.size)
    await persistently(() => sending.turn(ticket.size - offset, once), sending.signal, sending.onWait);
}

/** The chunks of one file that the service lacked when it was asked. */
class Chunks {
  readonly #onTheirWay = new Map<number, number>();
  #arrived: number;

  constructor(
    private readonly ticket: Ticket,
    private readonly data: Blob,
    private readonly state: State,
    private readonly sending: Sending,
  ) {
    this.#arrived = state.received.reduce((sum, [first, end]) => sum + end - first, 0);
  }

  /** Send them, several at once; the first that is refused for good ends the others. */
  async send(): Promise<void> {
    this.#tell();
    const failed = new AbortController();
    const signal = AbortSignal.any([this.sending.signal, failed.signal]);
    const missing = this.state.missing_chunks.values();
    const lane = async (): Promise<void> => {
      for (const index of missing) await this.#sendOne(index, signal);
    };
    try {
      await Promise.all(Array.from({ length: LANES }, lane));
    } catch (error) {
      failed.abort(error);
      throw error;
    }
  }

  async #sendOne(index: number, signal: AbortSignal): Promise<void> {
    const start = index * this.ticket.chunkSize;
    const part = this.data.slice(start, Math.min(start + this.ticket.chunkSize, this.ticket.size));
    await persistently(
      () => this.sending.turn(this.ticket.size - this.#arrived, () => this.#put(index, part, signal)),
      signal,
      this.sending.onWait,
    );
    this.#onTheirWay.delete(index);
    this.#arrived += part.size;
    this.#tell();
  }

  async #put(index: number, body: Blob, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    try {
      await transmit({
        method: "PUT",
        path: `api/uploads/${this.ticket.id}/chunks/${index}`,
        headers: { ...authorization(this.ticket), ...BYTES },
        body,
        signal,
        onSent: (sent) => {
          this.#onTheirWay.set(index, sent);
          this.#tell();
        },
      });
    } catch (error) {
      this.#onTheirWay.delete(index);
      this.#tell();
      const { chunkSize } = this.ticket;
      if (error instanceof Unreachable && this.#arrived === 0 && suitable(chunkSize) < chunkSize)
        throw new TooCoarse();
      throw error;
    }
  }

  #tell(): void {
    let bytes = this.#arrived;
    for (const sent of this.#onTheirWay.values()) bytes += sent;
    this.sending.onProgress(bytes);
  }
}

function authorization(ticket: Ticket): Record<string, string> {
  return { Authorization: `Bearer ${ticket.token}` };
}
