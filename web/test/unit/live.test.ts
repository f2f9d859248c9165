import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Message } from "../../src/live";

/** A stream of events that a test opens, breaks and refuses. */
class Source extends EventTarget {
  static readonly CLOSED = 2;
  static all: Source[] = [];
  readyState = 1;

  constructor() {
    super();
    Source.all.push(this);
  }

  close(): void {
    this.readyState = Source.CLOSED;
  }

  tell(name: string): void {
    this.dispatchEvent(new MessageEvent(name, { data: "{}" }));
  }

  refuse(): void {
    this.close();
    this.dispatchEvent(new Event("error"));
  }
}

class Tab extends EventTarget {
  readonly baseURI = "http://files.example/haulier/";
  hidden = false;

  show(visible: boolean): void {
    this.hidden = !visible;
    this.dispatchEvent(new Event("visibilitychange"));
  }
}

let tab: Tab;
const channels: string[] = [];

beforeEach(() => {
  vi.useFakeTimers();
  vi.resetModules();
  tab = new Tab();
  Source.all = [];
  channels.length = 0;
  vi.stubGlobal("document", tab);
  vi.stubGlobal("window", { BroadcastChannel: true });
  vi.stubGlobal("navigator", {});
  vi.stubGlobal("EventSource", Source);
  vi.stubGlobal(
    "BroadcastChannel",
    class extends EventTarget {
      constructor(name: string) {
        super();
        channels.push(name);
      }
      postMessage(): void {
        // Nobody else listens.
      }
    },
  );
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

async function listen(): Promise<Message[]> {
  const { Live } = await import("../../src/live");
  const heard: Message[] = [];
  const live = new Live();
  live.listen((message) => heard.push(message));
  live.start();
  return heard;
}

test("a stream that was refused is not opened again in a tab that is hidden", async () => {
  await listen();
  Source.all[0]?.refuse();
  tab.show(false);
  vi.advanceTimersByTime(60_000);
  expect(Source.all.length).toBe(1);
  tab.show(true);
  expect(Source.all.length).toBe(2);
});

test("a stream that was refused is opened again in a tab that is seen", async () => {
  await listen();
  Source.all[0]?.refuse();
  vi.advanceTimersByTime(60_000);
  expect(Source.all.length).toBe(2);
});

test("transfers are read anew each time a stream comes back, records only when it may have missed some", async () => {
  const heard = await listen();
  const gaps = (): string[] =>
    heard.splice(0).flatMap((message) => (message.type === "gap" ? [message.of] : []));
  Source.all[0]?.tell("ready");
  expect(gaps()).toEqual(["records", "transfers"]);
  Source.all[0]?.tell("ready");
  expect(gaps()).toEqual(["transfers"]);
  Source.all[0]?.tell("reset");
  expect(gaps()).toEqual(["records", "transfers"]);
  Source.all[0]?.tell("transfer.reset");
  expect(gaps()).toEqual(["transfers"]);
});

test("a stream on which nothing comes for a minute is given up for another one, and lists are read anew", async () => {
  const heard = await listen();
  Source.all[0]?.tell("ready");
  vi.advanceTimersByTime(50_000);
  Source.all[0]?.tell("beat");
  vi.advanceTimersByTime(50_000);
  expect(Source.all.length).toBe(1);
  heard.length = 0;
  vi.advanceTimersByTime(10_000);
  expect([Source.all.length, Source.all[0]?.readyState]).toEqual([2, Source.CLOSED]);
  Source.all[1]?.tell("open");
  Source.all[1]?.tell("ready");
  expect(heard).toEqual([
    { type: "connected", connected: false },
    { type: "connected", connected: true },
    { type: "gap", of: "records" },
    { type: "gap", of: "transfers" },
  ]);
});

test("a stream that the browser opens again is left to the browser, and to its place", async () => {
  await listen();
  for (let seconds = 0; seconds < 300; seconds += 3) {
    Source.all[0]?.dispatchEvent(new Event("error"));
    vi.advanceTimersByTime(3000);
  }
  expect(Source.all.length).toBe(1);
});

test("who is refused a stream is told, for a sign-in may be over", async () => {
  const heard = await listen();
  Source.all[0]?.refuse();
  expect(heard).toEqual([{ type: "connected", connected: false }, { type: "refused" }]);
});

test("pages of two services below one name have streams of their own", async () => {
  const locks: string[] = [];
  vi.stubGlobal("navigator", { locks: { request: (name: string) => (locks.push(name), Promise.resolve()) } });
  await listen();
  expect([locks, channels]).toEqual([["haulier.events /haulier/"], ["haulier.events /haulier/"]]);
});
