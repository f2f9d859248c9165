/** The part of Uppy that sends: every file is one upload of the native API. */
import { BasePlugin, EventManager, type Body, type Uppy, type UppyFile } from "@uppy/core";
import { Problem, type FileRecord } from "../api";
import type { OnWait } from "../patience";
import { isUnknown, whileKnown } from "../session";
import { sentence } from "../words";
import {
  abandon,
  abandonWhole,
  begin,
  isForgotten,
  isWhole,
  send,
  sendWhole,
  TooCoarse,
  type Description,
  type Sending,
  type Ticket,
} from "./session";
import { forget, forgetOld, keep, keptOf, type Kept, type Refusal } from "./tickets";
import { Door, Turns } from "./waiting";

export type PageMeta = { relativePath?: string | null };
export type PageBody = FileRecord & Body;
export type PageUppy = Uppy<PageMeta, PageBody>;
export type PageFile = UppyFile<PageMeta, PageBody>;

/** Requests at once: a browser has six connections for all of its tabs, and others need some too. */
const REQUESTS_AT_ONCE = 3;
/** Files with sessions at once; together with small ones few enough for a guest with six tabs, who may have a hundred. */
const SESSIONS_AT_ONCE = 8;
/** Files in one request at once: more than requests, since some may be waiting to try again. */
const WHOLE_AT_ONCE = 6;

interface AllTurns {
  sessions: Turns;
  whole: Turns;
  requests: Turns;
}

interface Options extends Record<string, unknown> {
  id?: string;
  /** Told when uploads wait for the network or the service, and (with null) when they go on. */
  onWait: OnWait;
}

class Paused extends Error {}
class Removed extends Error {}

export class Uploader extends BasePlugin<Options, PageMeta, PageBody> {
  readonly #turns: AllTurns = {
    sessions: new Turns(SESSIONS_AT_ONCE),
    whole: new Turns(WHOLE_AT_ONCE),
    requests: new Turns(REQUESTS_AT_ONCE),
  };

  constructor(uppy: PageUppy, options: Options) {
    super(uppy, options);
    this.id = "Uploader";
    this.type = "uploader";
  }

  override install(): void {
    const { capabilities } = this.uppy.getState();
    this.uppy.setState({
      capabilities: {
        ...capabilities,
        uploadProgress: true,
        resumableUploads: true,
        individualCancellation: true,
      },
    });
    forgetOld(Date.now());
    this.uppy.addUploader(this.#upload);
    this.uppy.on("file-removed", this.#free);
  }

  override uninstall(): void {
    this.uppy.removeUploader(this.#upload);
    this.uppy.off("file-removed", this.#free);
  }

  /** Whoever takes a file from the list does not want what has arrived of it. */
  readonly #free = (file: PageFile): void => {
    const kept = keptOf(file.id);
    forget(file.id);
    if (!kept || file.progress.uploadComplete) return;
    if (kept.ticket) void abandon(kept.ticket);
    else if (kept.whole && !kept.refused) void abandonWhole({ ...described(file), key: kept.key });
  };

  readonly #upload = async (ids: string[]): Promise<void> => {
    const files = this.uppy.getFilesByIds(ids).filter((file) => !file.progress.uploadComplete);
    this.uppy.emit("upload-start", files);
    await Promise.all(files.map((file) => this.#uploadOne(file.id)));
  };

  async #uploadOne(id: string): Promise<void> {
    const one = new OneFile(this.uppy, id, this.#turns, this.opts.onWait);
    try {
      const record = await one.send(await one.data());
      // Told before its session is forgotten: a reload in between would send it again.
      this.uppy.emit("upload-success", this.uppy.getFile(id), { status: 200, body: record as PageBody });
      forget(id);
    } catch (error) {
      if (error instanceof Removed) return;
      this.uppy.emit("upload-error", this.uppy.getFile(id), {
        name: "UploadError",
        message: sentence(error),
      });
    } finally {
      one.close();
    }
  }
}

/** One file on its way: paused, resumed, removed, and begun anew when its session is forgotten. */
class OneFile {
  readonly #events: EventManager<PageMeta, PageBody>;
  readonly #door = new Door();
  readonly #removed = new AbortController();
  #stage = new AbortController();

  constructor(
    private readonly uppy: PageUppy,
    private readonly id: string,
    private readonly turns: AllTurns,
    private readonly onWait: OnWait,
  ) {
    this.#events = new EventManager(uppy);
    this.#events.onFileRemove(id, () => this.#remove());
    this.#events.onFilePause(id, (paused) => (paused ? this.#pause() : this.#door.open()));
    this.#events.onPauseAll(id, () => this.#pause());
    this.#events.onResumeAll(id, () => this.#door.open());
  }

  close(): void {
    this.#events.remove();
  }

  /** The file's bytes; after a reload a large file has to be chosen again first. */
  data(): Promise<Blob> {
    const now = this.#file.data;
    if (now instanceof Blob) return Promise.resolve(now);
    return new Promise((resolve, reject) => {
      this.#removed.signal.addEventListener("abort", () => reject(new Removed()));
      this.#events.on("file-added", (file) => {
        if (file.id === this.id && file.data instanceof Blob) resolve(file.data);
      });
    });
  }

  /** Send it; while it is paused others have its turn. */
  async send(data: Blob): Promise<FileRecord> {
    for (;;) {
      await this.#door.passed();
      const stage = new AbortController();
      this.#stage = stage;
      const signal = AbortSignal.any([stage.signal, this.#removed.signal]);
      try {
        const turns = isWhole(this.#described(data)) ? this.turns.whole : this.turns.sessions;
        return await turns.run(this.id, data.size, () => this.#attempt(data, signal));
      } catch (error) {
        // An upload's own token is good for as long as the service knows the upload.
        const forgotten = isForgotten(error) || (isUnknown(error) && keptOf(this.id)?.ticket);
        if (error instanceof TooCoarse) {
          const ticket = keptOf(this.id)?.ticket;
          if (ticket) void abandon(ticket);
          forget(this.id);
        } else if (forgotten) forget(this.id);
        else if (!(error instanceof Paused)) throw error;
      }
    }
  }

  async #attempt(data: Blob, signal: AbortSignal): Promise<FileRecord> {
    signal.throwIfAborted();
    const sending: Sending = {
      turn: (left, job) => this.turns.requests.run(this.id, left, job),
      signal,
      onProgress: (bytes) => this.#tell(bytes, data.size),
      onWait: this.onWait,
    };
    const known = keptOf(this.id);
    const whole = known === null && isWhole(this.#described(data));
    const kept = known ?? { key: newKey(), ticket: null, since: Date.now(), whole };
    if (kept.refused) throw problemAgain(kept.refused);
    // Before anything is sent: who comes back asks by this key.
    keep(this.id, kept);
    if (whole) {
      const file = { ...this.#described(data), key: kept.key };
      const record = await whileKnown(() => sendWhole(file, data, sending)).catch((error: unknown) => {
        if (error instanceof Problem && error.slug === "upload-refused") keep(this.id, refused(kept, error));
        throw error;
      });
      if (record) return record;
    }
    return send(kept.ticket ?? (await this.#begin(data, kept, sending)), data, sending);
  }

  async #begin(data: Blob, kept: Kept, sending: Sending): Promise<Ticket> {
    const file = { ...this.#described(data), key: kept.key };
    const ticket = await whileKnown(() => begin(file, kept.whole ?? false, sending));
    keep(this.id, { ...kept, ticket });
    return ticket;
  }

  #described(data: Blob): Omit<Description, "key"> {
    return { ...described(this.#file), size: data.size };
  }

  #tell(bytesUploaded: number, bytesTotal: number): void {
    if (this.#removed.signal.aborted) return;
    const { uploadStarted } = this.#file.progress;
    if (uploadStarted === null) return;
    this.uppy.emit("upload-progress", this.#file, { uploadStarted, bytesUploaded, bytesTotal });
  }

  #pause(): void {
    this.#door.shut();
    this.#stage.abort(new Paused());
  }

  #remove(): void {
    this.#removed.abort(new Removed());
    this.#door.open();
  }

  get #file(): PageFile {
    return this.uppy.getFile(this.id);
  }
}

function described({ name, size, type, meta }: PageFile): Omit<Description, "key"> {
  return { filename: name, size: size ?? 0, path: pathOf(meta), contentType: type || null };
}

function refused(kept: Kept, { status, type, title, detail, members }: Problem): Kept {
  return { ...kept, refused: { status, type, title, detail, members } };
}

function problemAgain({ status, type, title, detail, members }: Refusal): Problem {
  return new Problem(status, type, title, detail, null, members);
}

/** The folder and name as the browser gave them; a lone file has no path. */
function pathOf(meta: PageMeta): string | null {
  const path = meta.relativePath?.replace(/^\/+/, "").normalize("NFC");
  return path?.includes("/") ? path : null;
}

/** Random, also where `crypto.randomUUID` is missing: on plain http names. */
function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
