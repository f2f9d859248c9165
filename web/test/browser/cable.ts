/** A way to a service that can be cut and mended, as a cable can, and be narrow. */
import { connect, createServer, type AddressInfo, type Socket } from "node:net";

export class Cable {
  readonly #sockets = new Set<Socket>();
  readonly #server = createServer((near) => this.#join(near));
  #whole = true;
  /** Bytes that have passed to the service. */
  passed = 0;

  /** `bytesPerS`: what each connection lets through to the service, from buffers that a sender knows nothing of. */
  constructor(
    private readonly port: number,
    private readonly bytesPerS = Infinity,
  ) {}

  /** Lay it; returns the address at its near end. */
  async lay(): Promise<string> {
    await new Promise<void>((laid) => this.#server.listen(0, "127.0.0.1", laid));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  cut(): void {
    this.#whole = false;
    for (const socket of this.#sockets) socket.destroy();
  }

  mend(): void {
    this.#whole = true;
  }

  remove(): void {
    this.cut();
    this.#server.close();
  }

  #join(near: Socket): void {
    if (!this.#whole) {
      near.destroy();
      return;
    }
    const far = connect(this.port, "127.0.0.1");
    for (const socket of [near, far]) {
      this.#sockets.add(socket);
      socket.on("close", () => {
        this.#sockets.delete(socket);
        near.destroy();
        far.destroy();
      });
      socket.on("error", () => socket.destroy());
    }
    near.on("data", (piece: Buffer) => {
      near.pause();
      far.write(piece);
      this.passed += piece.length;
      setTimeout(() => near.resume(), (piece.length / this.bytesPerS) * 1000);
    });
    near.on("end", () => far.end());
    far.pipe(near);
  }
}
