import { expect, test, vi } from "vitest";

vi.stubGlobal("document", { baseURI: "http://127.0.0.1:8000/" });
const { call, Unreachable } = await import("../../src/api");

test("what another machine answers in place of the service is no answer", async () => {
  vi.stubGlobal("fetch", () => Promise.resolve(new Response("<html>Log in to this network</html>")));
  await expect(call("api/session")).rejects.toBeInstanceOf(Unreachable);
});
