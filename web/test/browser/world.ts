/** One service and one browser for the tests of a file. */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import type { Browser, BrowserContext, BrowserContextOptions, Page } from "playwright-core";
import { complaintsOf, DEADLINE_MS, launch, open } from "./browser";
import { Service } from "./service";

export interface World {
  readonly service: Service;
  readonly browser: Browser;
  /** Open the page in a browser profile of its own. */
  page(options?: BrowserContextOptions, hash?: string, url?: string): Promise<Page>;
  /** A file of these bytes. */
  file(name: string, body: string | Uint8Array): string;
}

export function makeWorld(settings: Record<string, string> = {}): World {
  let service: Service | undefined;
  let browser: Browser | undefined;
  let pages: Page[] = [];
  const contexts: BrowserContext[] = [];
  const there = <T>(it: T | undefined): T => {
    if (it === undefined) throw new Error("not started");
    return it;
  };
  beforeAll(async () => {
    [service, browser] = await Promise.all([Service.start(settings), launch()]);
  }, DEADLINE_MS);
  afterEach(async () => {
    const complaints = pages.flatMap((page) => complaintsOf.get(page) ?? []);
    pages = [];
    for (const context of contexts.splice(0)) await context.close();
    expect(complaints).toEqual([]);
  });
  afterAll(async () => {
    await browser?.close();
    await service?.stop();
  });
  return {
    get service() {
      return there(service);
    },
    get browser() {
      return there(browser);
    },
    async page(options = {}, hash = "", url = there(service).url) {
      const context = await there(browser).newContext({ locale: "en-GB", timezoneId: "UTC", ...options });
      contexts.push(context);
      const page = await open(context, `${url}/${hash}`);
      pages.push(page);
      return page;
    },
    file(name, body) {
      const path = `${there(service).folder}/${name}`;
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, body);
      return path;
    },
  };
}
