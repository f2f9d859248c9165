/** One upload session of the service's native API: begun once, sent in chunks, finished once.
 *
 * Rule 1: what is kept of it (`Ticket`) is enough to go on from any page, after a reload or in another tab.
 * Rule 2: what arrived is the service's to say; it is asked before anything is sent again.
 * Rule 3: the network and a service that is busy or restarted are waited for as long as it takes. A connection on which
 *         nothing moves is given up for another one: many die without a word.
 * Rule 4: only a session whose time is over, or that nobody knows, is begun anew by itself. One that was refused or ended
 *         by somebody stays ended, and its reason is shown.
 */
import {
  address,
  call,
  Problem,
  problemOf,
  SILENCE_MS,
  Unreachable,
  Unreadable,
  type FileRecord,
} from "../api";
import { persistently, type OnWait } from "../patience";
import type { Turns } from "./waiting";

/** What is kept of a session, with the file. */
export interface Ticket {
  id: string;
  token: string;
  chunkSize: number;
  /** Of the file as it was when the session began. */
  size: number;
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

const SMALL_CHUNK = 1024 * 1024;
const BIG_CHUNK = 8 * 1024 * 1024;
/** Up to here a file is sent in small chunks: what a cut connection costs is at most one of them. */
const SMALL_FILE = 128 * 1024 * 1024;
/** Seconds for one long poll for the end: under the minute after which proxies give up. */
const POLL_S = 25;

/** Begin a session, as often as it takes to get an answer. */
export async function begin(file: Description, signal: AbortSignal, onWait: OnWait): Promise<Ticket> {
  const begun = await persistently(
    () =>
      call<Begun>("api/uploads", {
        method: "POST",
        headers: { "Idempotency-Key": file.key },
        json: {
          filename: file.filename,
          size: file.size,
          path: file.path,
          content_type: file.contentType,
          chunk_size: file.size <= SMALL_FILE ? SMALL_CHUNK : BIG_CHUNK,
        },
        signal,
      }),
    signal,
    onWait,
  );
  return { id: begun.id, token: begun.token, chunkSize: begun.chunk_size, size: begun.size };
}

/** End a session without a result; it also ends by itself, so a failure is nobody's worry. */
export async function abandon(ticket: Ticket): Promise<void> {
  await call(`api/uploads/${ticket.id}`, { method: "DELETE", headers: authorization(ticket) }).catch(
    () => undefined,
  );
}

/** Whether an error says that this session was forgotten, so that another may begin; see rule 4. */
export function isForgotten(error: unknown): boolean {
  if (!(error instanceof Problem)) return false;
  const expired = error.slug === "upload-gone" && error.members["upload_status"] === "expired";
  return expired || error.slug === "upload-not-found";
}

export interface Sending {
  /** Turns of all uploads of this page together. */
  turns: Turns;
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
    if (state.status === "open") await new Chunks(ticket, data, state, sending).send();
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
    try {
      await Promise.all(
        this.state.missing_chunks.map((index) => this.sending.turns.run(() => this.#sendOne(index, signal))),
      );
    } catch (error) {
      failed.abort(error);
      throw error;
    }
  }

  async #sendOne(index: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const start = index * this.ticket.chunkSize;
    const part = this.data.slice(start, Math.min(start + this.ticket.chunkSize, this.ticket.size));
    await persistently(() => this.#put(index, part, signal), signal, this.sending.onWait);
    this.#onTheirWay.delete(index);
    this.#arrived += part.size;
    this.#tell();
  }

  async #put(index: number, part: Blob, signal: AbortSignal): Promise<void> {
    try {
      await putBytes(
        `api/uploads/${this.ticket.id}/chunks/${index}`,
        part,
        authorization(this.ticket),
        signal,
        (sent) => {
          this.#onTheirWay.set(index, Math.min(sent, part.size));
          this.#tell();
        },
      );
    } catch (error) {
      this.#onTheirWay.delete(index);
      this.#tell();
      // To a browser both are one: a network that is away, and a file that is not what it was.
      if (error instanceof Unreachable && !(await isReadable(part))) throw new Unreadable();
      throw error;
    }
  }

  #tell(): void {
    let bytes = this.#arrived;
    for (const sent of this.#onTheirWay.values()) bytes += sent;
    this.sending.onProgress(bytes);
  }
}

async function isReadable(part: Blob): Promise<boolean> {
  try {
    await part.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}

/** `fetch` does not tell how much of a body is sent; this does. */
function putBytes(
  path: string,
  body: Blob,
  headers: Record<string, string>,
  signal: AbortSignal,
  onSent: (bytes: number) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const stop = (): void => request.abort();
    let timer = setTimeout(stop, SILENCE_MS);
    request.open("PUT", address(path));
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => {
      clearTimeout(timer);
      timer = setTimeout(stop, SILENCE_MS);
      onSent(event.loaded);
    };
    request.onloadend = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", stop);
      if (signal.aborted) reject(signal.reason as Error);
      else if (request.status === 0) reject(new Unreachable("no answer"));
      else if (request.status >= 300) {
        reject(problemOf(request.status, request.responseText, request.getResponseHeader("Retry-After")));
      } else resolve();
    };
    signal.addEventListener("abort", stop);
    request.send(body);
  });
}

function authorization(ticket: Ticket): Record<string, string> {
  return { Authorization: `Bearer ${ticket.token}` };
}
