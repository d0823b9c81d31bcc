// Asks the API, with the login of whoever sits here. The login is kept in memory only.
import { texts } from "./texts";

const RETRIES = 2;
const LONGEST_WAIT_SECONDS = 20;
/** The server refuses more than six requests of a user at once; one stays for another window. */
const AT_ONCE = 5;

/** What the API answered instead of what was asked for. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

export type Query = Record<string, string | number | undefined>;

export class Api {
  private authorization = "";
  private underWay = 0;
  private readonly waiting: (() => void)[] = [];

  /** `root` is the address under which /v1 lies; `onRefused` hears when a login is not valid. */
  constructor(
    private readonly root: string,
    private readonly onRefused: (problem: Problem) => void,
  ) {}

  logInByPassword(user: string, password: string): void {
    const bytes = new TextEncoder().encode(`${user}:${password}`);
    this.authorization = `Basic ${btoa(String.fromCharCode(...bytes))}`;
  }

  logInByToken(token: string): void {
    this.authorization = `Bearer ${token}`;
  }

  logOut(): void {
    this.authorization = "";
  }

  async json<T>(path: string, query: Query = {}, signal?: AbortSignal): Promise<T> {
    return (await this.get(path, query, signal)).json() as Promise<T>;
  }

  /** As `json`, but null where the API does not have it: an older server, or nothing to tell. */
  async jsonIfThere<T>(path: string, query: Query = {}, signal?: AbortSignal): Promise<T | null> {
    try {
      return await this.json<T>(path, query, signal);
    } catch (problem) {
      if (problem instanceof Problem && problem.status === 404) return null;
      throw problem;
    }
  }

  async get(path: string, query: Query = {}, signal?: AbortSignal): Promise<Response> {
    const url = new URL(path, this.root);
    for (const [name, value] of Object.entries(query))
      if (value !== undefined) url.searchParams.set(name, String(value));
    const login = this.authorization;
    if (!login) throw new Problem(401, "login_required", texts.logInFirst);
    // Without the browser's own credentials it does not ask for a login by itself.
    const asked: RequestInit = { credentials: "omit", headers: { Authorization: login } };
    if (signal) asked.signal = signal;
    for (let tries = 0; ; tries++) {
      const response = await this.inTurn(() => fetch(url, asked)).catch((error: unknown) => {
        if (error instanceof DOMException) throw error;
        throw new Problem(0, "unreachable", texts.unreachable);
      });
      if (response.ok) return response;
      const wait = Number(response.headers.get("Retry-After") ?? Infinity);
      if (tries < RETRIES && wait <= LONGEST_WAIT_SECONDS) {
        await new Promise((resolve) => setTimeout(resolve, wait * 1000));
        signal?.throwIfAborted();
        continue;
      }
      const problem = await problemOf(response);
      // A late answer to an earlier login says nothing of the one since.
      if (problem.status === 401 && login === this.authorization) this.onRefused(problem);
      throw problem;
    }
  }

  private async inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (this.underWay < AT_ONCE) this.underWay++;
    else await new Promise<void>((resolve) => this.waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.waiting.shift();
      if (next) next();
      else this.underWay--;
    }
  }
}

async function problemOf(response: Response): Promise<Problem> {
  const told: { code?: string; detail?: string } = await response.json().catch(() => ({}));
  return new Problem(response.status, told.code ?? "", told.detail ?? response.statusText);
}
