/** Calls of the service that this page came from. */

/** Where the service is: the page may be mounted below another address. */
export const BASE = new URL("./", document.baseURI);

export interface Asset {
  kind: string;
  size: number;
  content_type: string;
  digest: Record<string, string> | null;
  width: number | null;
  height: number | null;
  url: string;
  data_url?: string | null;
}

export interface FileRecord {
  id: string;
  capsule: string;
  filename: string;
  path: string | null;
  size: number | null;
  content_type: string;
  digest: Record<string, string> | null;
  status: string;
  error: string | null;
  created_at: string;
  uploaded_at: string | null;
  finished_at: string | null;
  deleted_at: string | null;
  metadata: Record<string, string>;
  assets: Asset[];
}

export interface Page<T> {
  items: T[];
  next: string | null;
  left_out: number;
}

/** What the service said against a request (RFC 9457). */
export class Problem extends Error {
  /** The last part of its type, which names its page: `storage-full`. */
  readonly slug: string;
  /** Seconds after which it may be tried again, where the service said so. */
  readonly retryAfter: number | null;

  constructor(
    readonly status: number,
    readonly type: string,
    readonly title: string,
    readonly detail: string,
    retryAfter: string | null,
    /** The other members of the document: the error's own facts. */
    readonly members: Readonly<Record<string, unknown>> = {},
  ) {
    super(detail || title);
    this.name = "Problem";
    this.slug = type.slice(type.lastIndexOf("/") + 1);
    this.retryAfter = retryAfter !== null && /^\d+$/.test(retryAfter) ? Number(retryAfter) : null;
  }

  /** Whether the same request may succeed later without anybody doing anything. */
  get passing(): boolean {
    return [408, 423, 429].includes(this.status) || (this.status >= 500 && this.status !== 507);
  }
}

/** No answer: the network, or the service, is away. */
export class Unreachable extends Error {
  override readonly name = "Unreachable";
}

/** The browser cannot read what is to be sent: the file was changed, moved or removed since it was chosen. */
export class Unreadable extends Error {
  override readonly name = "Unreadable";
}

export interface Options {
  method?: string;
  query?: Record<string, string | number | boolean | null | undefined>;
  json?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

/** Milliseconds without an answer, or without progress, after which a connection counts as dead. As long as the service
 * lets a sender be silent, and longer than it holds back any answer. */
export const SILENCE_MS = 60_000;

/** Call the service; undefined where the answer has no body.
 *
 * Throws Problem, Unreachable, or the reason of the signal.
 */
export async function call<T>(path: string, options: Options = {}): Promise<T> {
  const { json, signal } = options;
  const headers = new Headers(options.headers);
  if (json !== undefined) headers.set("Content-Type", "application/json");
  const request: RequestInit = { method: options.method ?? "GET", headers, cache: "no-store" };
  if (json !== undefined) request.body = JSON.stringify(json);
  const silent = new AbortController();
  const timer = setTimeout(() => silent.abort(new Unreachable("no answer")), SILENCE_MS);
  request.signal = AbortSignal.any([silent.signal, ...(signal ? [signal] : [])]);
  let answer: Response;
  let text: string;
  try {
    answer = await fetch(address(path, options.query), request);
    text = await answer.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Unreachable(error instanceof Error ? error.message : String(error));
  } finally {
    clearTimeout(timer);
  }
  if (!answer.ok) throw problemOf(answer.status, text, answer.headers.get("Retry-After"));
  return (text === "" ? undefined : parsed(text)) as T;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Not the service: a network that wants a sign-in of its own answers everything, with pages.
    throw new Unreachable("something else answered");
  }
}

/** The address of a path of the API; what is empty or null is left out of the query. */
export function address(path: string, query: Options["query"] = {}): URL {
  const url = new URL(path, BASE);
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.append(name, String(value));
  }
  return url;
}

/** Read a problem; whatever a proxy in between makes of it. */
export function problemOf(status: number, text: string, retryAfter: string | null): Problem {
  let body: Record<string, unknown> = {};
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed === "object" && parsed !== null) body = parsed as Record<string, unknown>;
  } catch {
    // Not a problem document: the status alone says what is wrong.
  }
  const word = (name: string) => (typeof body[name] === "string" ? body[name] : "");
  return new Problem(status, word("type"), word("title"), word("detail"), retryAfter, body);
}

/** Where an asset is, at the address by which this page was reached; links of the service may name its public one. */
export function assetUrl(record: FileRecord, kind: string): string {
  return address(`api/records/${record.id}/assets/${kind}`).href;
}
