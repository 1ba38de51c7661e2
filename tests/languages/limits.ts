export const consume: string = `local left = redis.call('DECRBY', KEYS[1], ARGV[1])
return left`;

export class Limits {
  private static readonly RESET = "return redis.call('DEL', KEYS[1])";

  constructor(private readonly redis: Redis, options?: { prefix: string }) {}

  async peek<T>(key: string): Promise<T> {
    return (await this.redis.eval<T>(`return redis.call('GET', KEYS[1])`, 1, key)) as T;
  }
}
